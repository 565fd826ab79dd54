"""On CPUs, the model runs in the engine core's own process, as it does on a GPU.

vLLM gives a CPU's model a worker process, because OpenMP reads its settings while a process starts.
The core and that worker then hand every step to each other through shared memory, and each spins
until the other is done: with few cores that takes the CPU away from who serves the requests
(docs/performance.md). The settings can as well be there before the core itself starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.utils.ompmultiprocessing import OMPProcessManager

_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""By its path: what vLLM knows by the short name `uni` it turns into `mp` on CPUs."""


def choose(arguments: AsyncEngineArgs) -> None:
    """Does so where one worker on a CPU is all there is, and nothing else was asked for.

    `--distributed-executor-backend mp` gives vLLM's own way back.
    """
    alone = (
        arguments.tensor_parallel_size
        * arguments.pipeline_parallel_size
        * arguments.data_parallel_size
        == 1
    )
    if current_platform.is_cpu() and alone and arguments.distributed_executor_backend is None:
        arguments.distributed_executor_backend = _EXECUTOR


@contextmanager
def environment(config: VllmConfig) -> Iterator[None]:
    """While the engine core starts: OpenMP's settings, as vLLM would give them to the worker."""
    if config.parallel_config.distributed_executor_backend != _EXECUTOR:
        yield
        return
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        yield
