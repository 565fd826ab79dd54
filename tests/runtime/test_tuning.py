"""What is set for the whole process, before anything can come too late."""

import subprocess
import sys

import pytest

CHECK = """
import os, sys
import {package}
assert "grpc" not in sys.modules, "gRPC has read its settings already"
assert os.environ["GRPC_EXPERIMENTS"] == "{value}"
"""


@pytest.mark.parametrize("package", ["ias_identity", "ias_metering", "ias_inference"])
@pytest.mark.parametrize("chosen", [None, "by-the-operator"])
def test_grpc_is_told_how_to_poll_before_it_is_imported(package: str, chosen: str | None):
    code = CHECK.format(package=package, value=chosen or "-event_engine_listener")
    environment = {} if chosen is None else {"GRPC_EXPERIMENTS": chosen}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
