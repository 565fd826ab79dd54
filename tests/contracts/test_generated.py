"""gen/ is what `make gen` makes of proto/, to the byte."""

import filecmp
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_generated_code_is_fresh(tmp_path):
    subprocess.run(
        [sys.executable, str(ROOT / "proto" / "generate.py"), "--out", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert _differences(ROOT / "gen", tmp_path) == [], "run `make gen` and commit gen/"


def _differences(committed: Path, generated: Path) -> list[str]:
    names = _files(committed) | _files(generated)
    return sorted(
        name
        for name in names
        if not (committed / name).is_file()
        or not (generated / name).is_file()
        or not filecmp.cmp(committed / name, generated / name, shallow=False)
    )


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
