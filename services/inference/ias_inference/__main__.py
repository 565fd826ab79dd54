"""`ias-inference serve | migrate`."""

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ias_runtime import logs

if TYPE_CHECKING:
    from ias_inference.settings import InferenceSettings


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
    # Imported here: vLLM's child processes may import this module anew, and need none of it.
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
