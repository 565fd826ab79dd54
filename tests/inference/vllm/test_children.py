"""vLLM's processes end with the adapter that started them, and are not scheduled like it."""

import os
import subprocess
import sys

from ias_inference.adapters.engines.vllm.children import ADAPTER

CHILD = """
import os, sys, time
from ias_inference.adapters.engines.vllm.children import register
if hasattr(os, "SCHED_BATCH"):
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
register()
print(os.sched_getscheduler(0) == os.SCHED_OTHER, flush=True)
time.sleep(float(sys.argv[1]))
"""


def child(adapter: str, seconds: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, ADAPTER: adapter}
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD, seconds], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    return started


def test_a_child_ends_when_the_adapter_was_killed() -> None:
    adapter = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = child(str(adapter.pid), "60")
    try:
        assert started.stdout is not None
        assert started.stdout.readline().strip() == "True", "it runs at once"
        adapter.kill()
        adapter.wait()
        assert started.wait(5) == 1
    finally:
        started.kill()
        started.wait()


def test_a_process_that_no_adapter_started_is_left_alone() -> None:
    started = child("", "0")
    output, _ = started.communicate(timeout=20)
    assert output.strip() == "False"
    assert started.returncode == 0
