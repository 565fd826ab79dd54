"""The gateway benchmark: what IAS costs on top of a model server that costs nothing.

    make bench                       everything, about two minutes
    python tests/bench/gateway.py --seconds 5 --json results.json

In one sitting, on one machine, with the same load generator (`hey`):

* upstream   a static answer (an Envoy with `direct_response`): no model, the time is ours;
* proxy      an Envoy that proxies to it and does nothing else: the floor of any gateway;
* IAS        key, budget, lease, usage event, all on, engine `openai` before the upstream.

Seconds differ from machine to machine; the ratio to the plain proxy is the figure to compare.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cpu
import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
UPSTREAM_PORT, PROXY_PORT = 38171, 38172
STACK = {"IAS_DEV_DIR": str(ROOT / ".ias-bench"), "IAS_DEV_PORT_BASE": "38080"}
CHUNKS = 32
TURNS = 4
MODELS = {False: "bench", True: "bench-stream"}
"""By whether the upstream streams."""
PREFIX = {False: "", True: "/stream"}
console = Console()

REQUEST = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 64}
USAGE = {"prompt_tokens": 11, "completion_tokens": CHUNKS, "total_tokens": 11 + CHUNKS}


@dataclass
class Result:
    """One cell of the table."""

    target: str
    connections: int
    streamed: bool
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=8, help="length of each measurement")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--keep", action="store_true", help="leave the stack running afterwards")
    parser.add_argument("--only", help="measure these targets alone, as ias,proxy")
    options = parser.parse_args()
    ensure_hey()
    with upstream(), stack(keep=options.keep) as key:
        results = measure(key, options.seconds, options.only)
        profile(key, options.seconds)
    report(results)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=2))


def ensure_hey() -> None:
    if shutil.which("hey") is None:
        console.print("Installing the load generator hey from Debian's packages …")
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "hey"], check=True)


def measure(key: str, seconds: int, only: str | None) -> list[Result]:
    """Every cell, in short turns, target after target: the machine's moods hit all alike."""
    targets = {
        "upstream": f"http://127.0.0.1:{UPSTREAM_PORT}",
        "proxy": f"http://127.0.0.1:{PROXY_PORT}",
        "ias": "http://127.0.0.1:38080",
    }
    if only:
        targets = {name: url for name, url in targets.items() if name in only.split(",")}
    results = []
    for streamed in (False, True):
        for connections in (1, 32):
            turns: dict[str, list[tuple[float, float, float]]] = {name: [] for name in targets}
            for turn in range(TURNS + 1):
                for name, base in targets.items():
                    url = base if name == "ias" else base + PREFIX[streamed]
                    seen = load(url, key, connections, streamed, max(1, seconds // TURNS))
                    if turn:  # the first warms caches, connections and leases
                        turns[name].append(seen)
            for name, seen_turns in turns.items():
                middle = [statistics.median(column) for column in zip(*seen_turns, strict=True)]
                results.append(Result(name, connections, streamed, *middle))
                shown = "streamed" if streamed else "plain"
                console.print(f"  {name:9} {shown:9} c={connections:<3} {middle[0]:8.0f} req/s")
    return results


def profile(key: str, seconds: int) -> None:
    """Prints where the CPU time of a plain request at 32 connections goes."""
    before = cpu.snapshot()
    rate, _, _ = load("http://127.0.0.1:38080", key, 32, False, seconds)
    used = cpu.per_request_us(before, cpu.snapshot(), rate * seconds)
    table = Table(title="CPU per plain request, 32 connections")
    table.add_column("program")
    table.add_column("µs", justify="right")
    for name, us in [*used.items(), ("all", sum(used.values()))]:
        table.add_row(name, f"{us:,.0f}")
    console.print(table)


def load(
    url: str, key: str, connections: int, streamed: bool, seconds: int
) -> tuple[float, float, float]:
    """Requests/s, p50 and p99 in ms. Ends the program when an answer was not 200."""
    body = {"model": MODELS[streamed], **REQUEST, "stream": streamed}
    command = [
        "hey", "-z", f"{seconds}s", "-c", str(connections), "-m", "POST", "-T", "application/json",
        "-H", f"Authorization: Bearer {key}", "-disable-compression",
        "-d", json.dumps(body), f"{url}/v1/chat/completions",
    ]  # fmt: skip
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 60
    ).stdout
    codes = dict(re.findall(r"\[(\d+)\]\s+(\d+) responses", output))
    if set(codes) != {"200"} or "Error distribution" in output:
        sys.exit(f"Not every answer was 200:\n{output}")
    latency = {q: float(ms) * 1000 for q, ms in re.findall(r"(\d+)%+ in ([\d.]+) secs", output)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate is not None
    return float(rate[1]), latency["50"], latency["99"]


def report(results: list[Result]) -> None:
    floor = {(r.connections, r.streamed): r for r in results if r.target == "proxy"}
    table = Table(title="Gateway benchmark: everything on, static upstream")
    for heading in (
        "target",
        "form",
        "connections",
        "req/s",
        "chunks/s",
        "p50 ms",
        "p99 ms",
        "× proxy",
        "added p50 ms",
    ):
        table.add_column(heading, justify="left" if heading in ("target", "form") else "right")
    for r in results:
        base = floor.get((r.connections, r.streamed))
        table.add_row(
            r.target,
            "streamed" if r.streamed else "plain",
            str(r.connections),
            f"{r.requests_per_s:,.0f}",
            f"{r.requests_per_s * CHUNKS:,.0f}" if r.streamed else "",
            f"{r.p50_ms:.1f}",
            f"{r.p99_ms:.1f}",
            f"{r.requests_per_s / base.requests_per_s:.2f}" if base else "",
            f"{r.p50_ms - base.p50_ms:.1f}" if base else "",
        )
    console.print(table)


@contextmanager
def stack(*, keep: bool) -> Iterator[str]:
    """A whole IAS of its own, with the static upstream registered; yields an API key."""
    environment = {**os.environ, **STACK}
    subprocess.run([BIN / "ias-dev", "up"], env=environment, check=True)
    try:
        dotenv = Path(STACK["IAS_DEV_DIR"], "dev.env").read_text()
        values = dict(re.findall(r"^(?:export )?(\w+)=(.*)$", dotenv, re.M))
        values = {name: value.strip("'\"") for name, value in values.items()}
        register_model({**environment, **values})
        yield values["IAS_DEMO_API_KEY"]
    finally:
        if not keep:
            subprocess.run([BIN / "ias-dev", "down", "--purge"], env=environment, check=True)


def register_model(environment: dict[str, str]) -> None:
    environment["IAS_CONFIG"] = str(Path(STACK["IAS_DEV_DIR"], "admin.yaml"))
    admin = str(BIN / "ias-admin")
    subprocess.run(
        [admin, "login", "--email", environment["IAS_ADMIN_EMAIL"], "--password-stdin"],
        env=environment, check=True, text=True, input=environment["IAS_ADMIN_PASSWORD"],
    )  # fmt: skip
    for streamed, model in MODELS.items():
        get = subprocess.run(
            [admin, "model", "get", model], env=environment, capture_output=True, check=False
        )
        if get.returncode:
            url = f"http://127.0.0.1:{UPSTREAM_PORT}{PREFIX[streamed]}/v1"
            add = [admin, "model", "add", model, "--engine", "openai", "--url", url]
            subprocess.run(add, env=environment, check=True)
    # A limit that the run cannot reach: leases are taken as for any budget.
    budget = ["budget", "set", "--org", "demo", "--tokens", str(10**12)]
    subprocess.run([admin, *budget], env=environment, check=True)


@contextmanager
def upstream() -> Iterator[None]:
    """One Envoy process with the static answer, another with the plain proxy before it."""
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for name, config in (("upstream", static_config()), ("proxy", proxy_config())):
            path = Path(folder, f"{name}.yaml")
            path.write_text(yaml.safe_dump(config))
            processes.append(
                subprocess.Popen(
                    [
                        BIN / "envoy",
                        "-c",
                        path,
                        "--disable-hot-restart",
                        "--concurrency",
                        "2",
                        "-l",
                        "error",
                    ],
                )
            )
        try:
            for port in (UPSTREAM_PORT, PROXY_PORT):
                wait_for_port(port)
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
                process.wait(20)


def wait_for_port(port: int) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, 20, f"port {port}")


def wait_for(so: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns once it is so. Ends the program when it takes longer."""
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            sys.exit(f"{what} is not ready after {seconds} s.")
        time.sleep(0.05)


def static_config() -> dict[str, object]:
    common = {"id": "chatcmpl-1", "created": 1, "model": "static"}
    message = {"role": "assistant", "content": "hello " * CHUNKS}
    answer = {
        **common,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    common["object"] = "chat.completion.chunk"
    choice = {"index": 0, "delta": {"content": "hello "}, "finish_reason": None}
    events = [
        *[{**common, "choices": [choice]}] * CHUNKS,
        {**common, "choices": [], "usage": USAGE},
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    routes = [
        direct_response("/stream/", stream, "text/event-stream"),
        direct_response("/", json.dumps(answer), "application/json"),
    ]
    return config(UPSTREAM_PORT, routes, clusters=[])


def proxy_config() -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": UPSTREAM_PORT}}
    cluster = {
        "name": "upstream",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    return config(
        PROXY_PORT,
        [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
        clusters=[cluster],
    )


def direct_response(prefix: str, body: str, content_type: str) -> dict[str, object]:
    header = {"key": "content-type", "value": content_type}
    return {
        "match": {"prefix": prefix},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }


def config(port: int, routes: list[dict[str, object]], clusters: list[object]) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [
            # Without it a direct response goes out before the body is read, and Envoy closes the
            # connection: every request would pay for a new one, which no model server asks for.
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": f"{types}.http.buffer.v3.Buffer",
                    "max_request_bytes": 1048576,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{types}.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "max_direct_response_body_size_bytes": 65536,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"name": "bench", "address": address, "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


if __name__ == "__main__":
    main()
