"""The rendered configuration is what a reviewer saw, and Envoy accepts it.

    pytest tests/envoy/test_golden.py --update-golden

writes tests/golden/envoy anew; the difference is then reviewed like code.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ias_envoy.model import Cluster, Edge
from ias_envoy.render import render, to_yaml
from ias_envoy.watch import write

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "envoy"
CLUSTERS = [
    Cluster("identity", ("127.0.0.1:8091",)),
    Cluster("metering", ("metering.internal:8092",)),
    Cluster("inference", ("127.0.0.1:8093", "unix:/run/ias/inference.sock")),
]


def edge(directory: Path, descriptors: Path, **more: object) -> Edge:
    return Edge(
        listen="0.0.0.0:8080",
        admin="127.0.0.1:8081",
        descriptors=descriptors,
        config_directory=directory,
        cors_origins=("https://portal.example",),
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    # Golden files name no path of one machine.
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("name", ["bootstrap.yaml", "clusters.yaml", "routes.yaml"])
def test_the_configuration_is_the_reviewed_one(name: str, request: pytest.FixtureRequest) -> None:
    files = render(edge(Path("run/envoy"), Path("gen/descriptors.binpb")), CLUSTERS)
    text = to_yaml(files[name])
    if request.config.getoption("--update-golden", default=False):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.usefixtures("in_root")
def test_the_files_are_plain_readable_yaml() -> None:
    files = render(edge(Path("run/envoy"), Path("gen/descriptors.binpb")), CLUSTERS)
    for content in files.values():
        text = to_yaml(content)
        assert yaml.safe_load(text) == content
        assert not any("&id" in line or "*id" in line for line in text.splitlines())


@pytest.mark.parametrize("tls", [False, True])
def test_envoy_accepts_it(tls: bool, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    pair = {"certificate": certificate[0], "key": certificate[1]} if tls else {}
    config = tmp_path / "config"
    write(render(edge(config, ROOT / "gen" / "descriptors.binpb", **pair), CLUSTERS), config)
    binary = Path(sys.executable).parent / "envoy"
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", config / "bootstrap.yaml", "--disable-hot-restart"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    files = render(edge(tmp_path, ROOT / "gen" / "descriptors.binpb"), CLUSTERS)
    assert write(files, tmp_path) == ["bootstrap.yaml", "clusters.yaml", "routes.yaml"]
    assert write(files, tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_a_cluster_that_routes_name_may_not_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cluster inference"):
        render(edge(tmp_path, ROOT / "gen" / "descriptors.binpb"), CLUSTERS[:2])


@pytest.mark.parametrize("address", ["nowhere", "host:", ":80", "host:0", "host:70000", "host:x"])
def test_a_malformed_address_is_refused_before_envoy_sees_it(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        Cluster("identity", (address,))


def test_the_command_renders_from_environment_and_options(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ias_envoy",
            "render",
            "--out",
            tmp_path,
            "--envoy-listen",
            "127.0.0.1:9",
        ],
        env={"IAS_INFERENCE_TARGET": "127.0.0.1:1,127.0.0.1:2", "IAS_ENVOY_LISTEN": "127.0.0.1:8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bootstrap = yaml.safe_load((tmp_path / "bootstrap.yaml").read_text())
    listener = bootstrap["static_resources"]["listeners"][0]
    assert listener["address"]["socket_address"]["port_value"] == 9
    clusters = yaml.safe_load((tmp_path / "clusters.yaml").read_text())["resources"]
    inference = next(cluster for cluster in clusters if cluster["name"] == "inference")
    assert len(inference["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2


def test_the_command_says_what_it_cannot_use(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ias_envoy",
            "render",
            "--out",
            tmp_path,
            "--envoy-listen",
            "nonsense",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'nonsense' is not host:port" in done.stderr
    assert "Traceback" not in done.stderr
