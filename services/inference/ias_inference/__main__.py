"""`ias-inference serve | migrate`."""

import argparse
import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ias_runtime import logs

if TYPE_CHECKING:
    from ias_inference.settings import InferenceSettings

_PARENT_WATCH_S = 1.0


def _end_with_parent() -> None:
    """Ends a child process of the engine soon after its parent has died, however that died.

    vLLM's own children would live on without it, and hold the memory that the next start needs.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch over the parent", daemon=True).start()


def _schedule_at_once() -> None:
    """Takes back `tuning.prefer_throughput`, which a child inherits.

    The engine core and its worker hand every step to each other: what makes them wait their turn
    costs throughput (0.7 × of a bare server instead of more than 1 ×), where it gains some in a
    gRPC server.
    """
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_BATCH:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


if multiprocessing.parent_process() is not None:  # such a child imports this module anew
    _end_with_parent()
    _schedule_at_once()


def main() -> None:
    """Runs a subcommand."""
    parser = argparse.ArgumentParser(prog="ias-inference")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve until SIGTERM",
        epilog="With --engine vllm all other arguments are vLLM's own, as for `vllm serve`:"
        " --model NAME-OR-PATH, --served-model-name, --max-model-len, …",
        allow_abbrev=False,
    )
    serve.add_argument("--engine", choices=["vllm"], help="run this engine in the process")
    commands.add_parser("migrate", help="bring the database up to date, then end")
    arguments, others = parser.parse_known_args()
    engine: str | None = getattr(arguments, "engine", None)
    if others and engine is None:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    # Imported here: vLLM's child processes import this module anew, and need none of it.
    from ias_inference.settings import InferenceSettings

    settings = InferenceSettings()  # type: ignore[call-arg]  # from the environment
    logs.configure("inference", settings.log_level)
    if arguments.command == "migrate":
        from ias_inference import wiring

        wiring.migrate_database(settings.database_url.get_secret_value())
    else:
        _serve(settings, engine, others)


def _serve(settings: "InferenceSettings", engine: str | None, flags: Sequence[str]) -> None:
    from ias_inference import wiring
    from ias_runtime import server

    vllm = wiring.vllm_engine(settings, flags) if engine == "vllm" else None
    asyncio.run(server.serve(settings, lambda: wiring.opening(settings, vllm)))


if __name__ == "__main__":
    main()
