"""Generates everything under `gen/` from the contracts in `proto/`.

    python proto/generate.py            writes gen/
    python proto/generate.py --out DIR  writes DIR instead (the freshness test does)
    python proto/generate.py --google   writes nothing but what buf needs (`make lint` does)

It also lays google/api and google/rpc, as shipped by googleapis-common-protos,
into third_party/googleapis, where buf and protoc find them.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import google.api
import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
THIRD_PARTY = ROOT / "third_party" / "googleapis"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
# Without error_details in the descriptors, Envoy answers google.rpc.Status with an empty body.
GOOGLE = [
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "gen")
    parser.add_argument("--google", action="store_true")
    options = parser.parse_args()
    out: Path = options.out
    # protoc runs its plugins (mypy-protobuf, betterproto2) from the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lay_google_protos()
    if options.google:
        return
    contracts = sorted(
        str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto").rglob("*.proto")
    )
    generate_servers(out / "python", contracts)
    generate_sdk(out / "sdk" / "ias_sdk", contracts)
    run(
        [
            "--include_imports",
            f"--descriptor_set_out={out / 'descriptors.binpb'}",
            *contracts,
            *GOOGLE,
        ]
    )


def lay_google_protos() -> None:
    """Copies the few google protos that ours import (directly or not)."""
    source = Path(next(iter(google.api.__path__))).parent.parent
    for name in GOOGLE:
        target = THIRD_PARTY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)


def generate_servers(out: Path, contracts: list[str]) -> None:
    """protobuf messages, grpcio stubs, and the types of both."""
    recreate(out)
    run(
        [f"--{kind}_out={out}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
        + contracts
    )


def generate_sdk(out: Path, contracts: list[str]) -> None:
    """betterproto2 dataclasses with synchronous and asyncio clients."""
    recreate(out)
    run(
        [
            f"--python_betterproto2_out={out}",
            "--python_betterproto2_opt=client_generation=async_sync",
            *contracts,
        ]
    )


def recreate(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def run(arguments: list[str]) -> None:
    includes = [f"-I{ROOT / 'proto'}", f"-I{THIRD_PARTY}", f"-I{WELL_KNOWN}"]
    if protoc.main(["protoc", *includes, *arguments]) != 0:
        sys.exit("protoc failed; its message is above.")


if __name__ == "__main__":
    main()
