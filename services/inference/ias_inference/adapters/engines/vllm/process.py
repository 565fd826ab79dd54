"""vLLM in this process: started in a thread, watched, ended.

The engine core and its workers are processes of their own, children of this one; what runs here
is vLLM's front end. Its constructor blocks for as long as the model loads, so it runs in a thread,
and this process answers health checks meanwhile.
"""

import asyncio
import os
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import structlog
import vllm
from starlette.datastructures import State
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.envs import enable_envs_cache
from vllm.logger import configure_logging_from_args
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

from ias_inference.adapters.engines.vllm import SUPPORTED, one_process
from ias_inference.adapters.engines.vllm.children import ADAPTER
from ias_inference.adapters.engines.vllm.metered import MeteredClient

log = structlog.get_logger()

_WATCH_S = 0.5
"""How soon a dead engine is noticed when nobody asks it anything."""
_SHUTDOWN_S = 5.0
"""For the engine core to end by itself."""
_ENVIRONMENT = {
    # Reports about what runs here to others are for the operator to switch on.
    "VLLM_NO_USAGE_STATS": "1",
    # gRPC's threads don't survive a fork.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


def arguments_of(flags: Sequence[str]) -> Namespace:
    """vLLM's own flags, checked as `vllm serve` would. Ends the program for wrong ones."""
    parser = make_arg_parser(FlexibleArgumentParser(prog="ias-inference serve --engine vllm"))
    arguments: Namespace = parser.parse_args(list(flags))
    validate_parsed_serve_args(arguments)
    return arguments


class Process:
    """One running vLLM."""

    def __init__(self, flags: Sequence[str]) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ[ADAPTER] = str(os.getpid())
        self.arguments = arguments_of(flags)
        self.llm: AsyncLLM
        self.state: Any
        """vLLM's serving objects, by the names that its own server gives them."""
        self.client: MeteredClient
        self.tasks: tuple[str, ...] = ()
        """What the model can do, in vLLM's words: `generate`, `embed`, `score`, …"""
        self.running = False

    @property
    def names(self) -> list[str]:
        """What the model is called: a registered backend's `upstream_model` must be one of them."""
        arguments = self.arguments
        names: list[str] | None = arguments.served_model_name
        return names or [arguments.model]

    async def start(self) -> None:
        """Loads the model; seconds to many minutes. Raises what vLLM raises."""
        release = ".".join(vllm.__version__.split("+")[0].split(".")[:2])
        if release not in SUPPORTED:
            log.warning("untested release of vLLM", release=vllm.__version__, supported=SUPPORTED)
        arguments = self.arguments
        configure_logging_from_args(arguments)
        if arguments.tool_parser_plugin:
            ToolParserManager.import_tool_parser(arguments.tool_parser_plugin)
        if arguments.reasoning_parser_plugin:
            ReasoningParserManager.import_reasoning_parser(arguments.reasoning_parser_plugin)
        self.llm = await asyncio.get_running_loop().run_in_executor(None, self._build)
        try:
            await self.llm.reset_mm_cache()
            self.tasks = await self.llm.get_supported_tasks()
            self.client = MeteredClient(self.llm)
            self.state = State()
            await init_app_state(self.client, self.state, arguments, self.tasks)
        except BaseException:
            self.llm.shutdown(timeout=_SHUTDOWN_S)
            raise
        # As vLLM's own processes do: without it each of its settings is read anew wherever it is
        # looked at, some of them for every step and every request (4 % of this process's time).
        enable_envs_cache()
        self.running = True
        log.info("model loaded", names=self.names, tasks=self.tasks, vllm=vllm.__version__)

    def _build(self) -> AsyncLLM:
        arguments = AsyncEngineArgs.from_cli_args(self.arguments)
        one_process.choose(arguments)
        config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
        with one_process.environment(config):
            return AsyncLLM.from_vllm_config(
                config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                enable_log_requests=arguments.enable_log_requests,
                disable_log_stats=arguments.disable_log_stats,
            )

    async def died(self) -> None:
        """Returns when the engine has died; it can't be revived in this process."""
        while not self.llm.errored:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(_WATCH_S)
        self.running = False

    async def stop(self) -> None:
        """Ends the engine core and its workers."""
        if self.running or hasattr(self, "llm"):
            self.running = False
            await asyncio.to_thread(self.llm.shutdown, timeout=_SHUTDOWN_S)
