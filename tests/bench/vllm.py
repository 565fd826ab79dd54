"""The vLLM benchmark: IAS with vLLM in its adapter, beside a bare `vllm serve`.

    make bench-vllm                      everything, about eleven minutes
    python tests/bench/vllm.py --seconds 2 --json results.json

In one sitting, on one machine, with the same tiny model, the same requests and the same load
generator (`hey`), turn after turn:

* bare     `vllm serve` (by its module, which needs no console script): no key, budget or usage;
* IAS      the adapter with vLLM inside, behind Envoy: key, budget, lease, durable usage, all on;
* engine   AsyncLLM.generate driven directly, no server at all: the limit of any front end.

The model is so small that the CPU is what runs out, so the cost of the front ends is what shows.
Seconds differ from machine to machine; the ratios are the figures to compare.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cpu
from gateway import ensure_hey, wait_for
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VLLM_BIN = ROOT / ".venv-vllm" / "bin"
MODEL = ROOT / ".cache" / "vllm" / "tiny-chat"
NAME = "tiny-chat"
BASE = 26380
STACK = {"IAS_DEV_DIR": str(ROOT / ".ias-bench-vllm"), "IAS_DEV_PORT_BASE": str(BASE)}
BARE_PORT = BASE + 60
CPU_ONLY = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # This file would stand for vLLM, were its folder on the path of who is started here.
    "PYTHONSAFEPATH": "1",
}
TURNS = 3
SETTLE_S = 1.5
"""Before a turn: for a second after their last step vLLM's workers spin, and would take a core from
whoever is measured next."""
CLIENTS = (1, 16, 64)
TOKENS = {False: 16, True: 32}
"""Of an answer, by whether it is streamed."""
TARGETS = ("bare", "ias", "engine")
PROGRAMS = {
    "adapter (vLLM's front end in it)": "ias_inference serve --engine",
    "bare server": "openai.api_server",
    "engine core and worker": "VLLM::",
    "identity": "ias_identity serve",
    "metering": "ias_metering serve",
    "Envoy": "envoy/bootstrap.yaml",
    "RabbitMQ": "beam.smp",
    "PostgreSQL": "postgres:",
    "Redis": "redis-server",
}
console = Console()


@dataclass
class Result:
    """One cell of the table."""

    target: str
    clients: int
    streamed: bool
    requests_per_s: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5, help="length of one turn")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, as bare,ias")
    parser.add_argument("--clients", default=",".join(map(str, CLIENTS)))
    options = parser.parse_args()
    ensure_hey()
    targets = options.only.split(",")
    clients = [int(count) for count in options.clients.split(",")]
    with ExitStack() as stack:
        key = stack.enter_context(ias()) if "ias" in targets else ""
        if "bare" in targets:
            stack.enter_context(bare())
        engine = stack.enter_context(Engine()) if "engine" in targets else None
        results = measure(targets, clients, key, engine, options.seconds, options.turns)
        for streamed in (False, True):
            profile([t for t in targets if t != "engine"], max(clients), key, streamed)
    report(results, targets)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=2))


def measure(
    targets: list[str],
    clients: list[int],
    key: str,
    engine: "Engine | None",
    seconds: int,
    turns: int,
) -> list[Result]:
    """Every cell, in short turns, target after target: the machine's moods hit all alike."""
    results = []
    for streamed in (False, True):
        for count in clients:
            seen: dict[str, list[float]] = {name: [] for name in targets}
            for turn in range(turns + 1):
                for name in targets:
                    time.sleep(SETTLE_S)
                    if name == "engine":
                        assert engine is not None
                        rate = engine.load(count, streamed, seconds)
                    else:
                        rate = load(name, key, count, streamed, seconds)
                    if turn:  # the first warms caches, connections and leases
                        seen[name].append(rate)
            shown = "streamed" if streamed else "plain"
            for name, rates in seen.items():
                results.append(Result(name, count, streamed, statistics.median(rates)))
                each = " ".join(f"{rate:.0f}" for rate in rates)
                middle = statistics.median(rates)
                console.print(f"  {name:7} {shown:9} c={count:<3} {middle:7.0f} req/s  ({each})")
    return results


def body_of(streamed: bool) -> dict[str, Any]:
    """The same for both servers."""
    return {
        "model": NAME,
        "messages": [{"role": "user", "content": "Tell me something about budgets."}],
        "max_tokens": TOKENS[streamed],
        "temperature": 0,
        "ignore_eos": True,
        "stream": streamed,
    }


def load(target: str, key: str, clients: int, streamed: bool, seconds: int) -> float:
    """Requests/s. Ends the program when an answer was not 200."""
    port = BASE if target == "ias" else BARE_PORT
    command = [
        "hey", "-z", f"{seconds}s", "-c", str(clients), "-m", "POST", "-T", "application/json",
        "-H", f"Authorization: Bearer {key or 'none'}", "-disable-compression",
        "-d", json.dumps(body_of(streamed)), f"http://127.0.0.1:{port}/v1/chat/completions",
    ]  # fmt: skip
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 60
    ).stdout
    codes = dict(re.findall(r"\[(\d+)\]\s+(\d+) responses", output))
    if set(codes) != {"200"} or "Error distribution" in output:
        sys.exit(f"Not every answer of {target} was 200:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate is not None
    return float(rate[1])


def profile(targets: list[str], clients: int, key: str, streamed: bool) -> None:
    """Prints where the CPU time of a request goes, program by program."""
    cpu.PROGRAMS.clear()
    cpu.PROGRAMS.update(PROGRAMS)
    seconds = 4
    used = {}
    for target in targets:
        before = cpu.snapshot()
        rate = load(target, key, clients, streamed, seconds)
        used[target] = cpu.per_request_us(before, cpu.snapshot(), rate * seconds)
    shown = "streamed" if streamed else "plain"
    table = Table(title=f"CPU per {shown} request, {clients} clients, in µs")
    table.add_column("program")
    for target in targets:
        table.add_column(target, justify="right")
    for name in [*PROGRAMS, "load generator"]:
        figures = [used[target][name] for target in targets]
        if max(figures) >= 10:
            table.add_row(name, *(f"{us:,.0f}" for us in figures))
    table.add_row("all", *(f"{sum(used[target].values()):,.0f}" for target in targets))
    console.print(table)


def report(results: list[Result], targets: list[str]) -> None:
    rates = {(r.target, r.streamed, r.clients): r.requests_per_s for r in results}
    table = Table(title="vLLM: IAS with everything on, beside a bare server and the engine alone")
    table.add_column("form")
    for heading in ("clients", *targets, "IAS × bare", "engine × bare"):
        table.add_column(heading, justify="right")
    for streamed in (False, True):
        for clients in sorted({r.clients for r in results}):
            row = {t: rates[t, streamed, clients] for t in targets}
            base = row.get("bare")
            table.add_row(
                f"streamed, {TOKENS[True]} tokens"
                if streamed
                else f"plain, {TOKENS[False]} tokens",
                str(clients),
                *(f"{row[t]:,.0f}" for t in targets),
                *(f"{row[t] / base:.2f}" if base and t in row else "" for t in ("ias", "engine")),
            )
    console.print(table)


@contextmanager
def ias() -> Iterator[str]:
    """A whole IAS of its own that serves the tiny model; yields an API key."""
    environment = {**os.environ, **STACK}
    subprocess.run([BIN / "ias-dev", "up", "--model", MODEL], env=environment, check=True)
    try:
        dotenv = Path(STACK["IAS_DEV_DIR"], "dev.env").read_text()
        values = {
            name: value.strip("'\"")
            for name, value in re.findall(r"^(?:export )?(\w+)=(.*)$", dotenv, re.M)
        }
        environment |= values | {"IAS_CONFIG": str(Path(STACK["IAS_DEV_DIR"], "admin.yaml"))}
        admin = str(BIN / "ias-admin")
        subprocess.run(
            [admin, "login", "--email", values["IAS_ADMIN_EMAIL"], "--password-stdin"],
            env=environment, check=True, text=True, input=values["IAS_ADMIN_PASSWORD"],
        )  # fmt: skip
        # A limit that the run cannot reach: leases are taken as for any budget.
        budget = ["budget", "set", "--org", "demo", "--tokens", str(10**12)]
        subprocess.run([admin, *budget], env=environment, check=True)
        yield values["IAS_DEMO_API_KEY"]
    finally:
        subprocess.run([BIN / "ias-dev", "down", "--purge"], env=environment, check=True)


@contextmanager
def bare() -> Iterator[None]:
    """vLLM's own server, with its access log off."""
    command = [
        VLLM_BIN / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL,
        "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(BARE_PORT),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    with started([str(part) for part in command], "bare"):
        console.print("Waiting for the bare server …")
        wait_for(ready, 240, "the bare server")
        yield


def ready() -> bool:
    """Whether the bare server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{BARE_PORT}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Engine:
    """The engine alone, in a process of its own (vllm_engine.py)."""

    def __enter__(self) -> "Engine":
        self._stack = ExitStack()
        command = [str(VLLM_BIN / "python"), str(ROOT / "tests/bench/vllm_engine.py"), str(MODEL)]
        self._process = self._stack.enter_context(started(command, "engine", pipes=True))
        console.print("Waiting for the engine alone …")
        self._answer("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def load(self, clients: int, streamed: bool, seconds: int) -> float:
        """Requests/s."""
        asked = {
            "clients": clients,
            "streamed": streamed,
            "seconds": seconds,
            "tokens": TOKENS[streamed],
            "messages": body_of(streamed)["messages"],
        }
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(asked) + "\n").encode())
        self._process.stdin.flush()
        return float(self._answer("rate"))

    def _answer(self, word: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            first, _, rest = line.decode(errors="replace").strip().partition(" ")
            if first == f"bench:{word}":
                return rest
        sys.exit("The engine alone has ended; see .cache/bench-vllm/engine.log")


@contextmanager
def started(
    command: list[str], name: str, *, pipes: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, ended with all its children."""
    logs = ROOT / ".cache" / "bench-vllm"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **CPU_ONLY},
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


if __name__ == "__main__":
    main()
