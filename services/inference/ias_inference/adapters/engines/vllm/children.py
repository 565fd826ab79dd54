"""What vLLM's child processes do for IAS: they end with the adapter, and run at once.

vLLM calls `register` in each of its processes: it is one of its general plugins (an entry point of
this distribution). In the processes of a vLLM that no adapter started it does nothing.
"""

import os
import threading
import time

ADAPTER = "IAS_VLLM_ADAPTER_PID"
"""The environment variable by which an adapter's children know it."""
_WATCH_S = 1.0


def register() -> None:
    """Called by vLLM while it starts a process; may be called more than once."""
    adapter = os.environ.get(ADAPTER, "")
    if not adapter.isdigit() or int(adapter) == os.getpid():
        return
    if any(thread.name == _watch.__name__ for thread in threading.enumerate()):
        return
    _run_at_once()
    threading.Thread(target=_watch, args=[int(adapter)], name=_watch.__name__, daemon=True).start()


def _run_at_once() -> None:
    """Takes back `tuning.prefer_throughput`, which children inherit.

    The engine core and its worker hand every step to each other: waiting their turn costs
    throughput there, where it gains some in a gRPC server (docs/performance.md).
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in map(int, os.listdir("/proc/self/task")):
        if os.sched_getscheduler(thread) == os.SCHED_BATCH:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _watch(adapter: int) -> None:
    """Ends this process soon after the adapter has ended, however that came.

    vLLM's own children live on after `kill -9`, and hold the memory that the next start needs.
    """
    while _lives(adapter):
        time.sleep(_WATCH_S)
    os._exit(1)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
