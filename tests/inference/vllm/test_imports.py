"""vLLM is imported in one package, and that package only where the engine was chosen."""

import ast
import subprocess
import sys
from pathlib import Path

import ias_inference

OF_VLLM = {"vllm", "torch", "transformers", "tokenizers", "starlette"}
PACKAGE = Path(ias_inference.__file__).parent
ENGINE = PACKAGE / "adapters" / "engines" / "vllm"


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_only_the_engine_imports_vllm() -> None:
    services = PACKAGE.parents[1]
    elsewhere = [file for file in services.rglob("*.py") if ENGINE not in file.parents]
    assert len(elsewhere) > 100
    assert [file for file in elsewhere if imported(file) & OF_VLLM] == []
    assert any(imported(file) & OF_VLLM for file in ENGINE.glob("*.py"))


def test_a_service_without_the_engine_loads_none_of_it() -> None:
    code = "import sys, ias_inference.wiring; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "ias_inference.wiring" in loaded
    assert not [name for name in loaded if "engines.vllm" in name or name in OF_VLLM]
