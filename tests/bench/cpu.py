"""Where the CPU time of a benchmark goes: seconds by program, read from /proc."""

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROGRAMS = {
    "identity": "ias_identity serve",
    "inference": "ias_inference serve",
    "metering": "ias_metering serve",
    "Envoy": "envoy/bootstrap.yaml",
    "upstream": "upstream.yaml",
    "RabbitMQ": "beam.smp",
    "PostgreSQL": "postgres:",
    "Redis": "redis-server",
}
"""What each program's command line holds."""


def snapshot() -> dict[str, float]:
    """CPU seconds used so far by each program, and by the children of this process that ended."""
    found = dict.fromkeys(PROGRAMS, 0.0)
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        for program, mark in PROGRAMS.items():
            if mark in command:
                found[program] += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    times = os.times()
    return {**found, "load generator": times.children_user + times.children_system}


def per_request_us(
    before: dict[str, float], after: dict[str, float], requests: float
) -> dict[str, float]:
    """Microseconds of CPU per request by program, the largest first."""
    used = {name: (after[name] - before[name]) / requests * 1e6 for name in after}
    return dict(sorted(used.items(), key=lambda item: -item[1]))
