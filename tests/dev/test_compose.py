"""deploy/compose.yaml says what the services' settings ask for."""

import re
from pathlib import Path

import pytest
import yaml

from ias_dev import services
from ias_dev.keys import Keys
from ias_dev.settings import SERVICES, Settings
from ias_envoy.settings import Settings as EnvoySettings
from ias_identity.settings import IdentitySettings
from ias_inference.settings import InferenceSettings
from ias_metering.settings import Settings as MeteringSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
CLASSES = {
    "identity": IdentitySettings,
    "metering": MeteringSettings,
    "inference": InferenceSettings,
}


def variables(name: str) -> dict[str, str]:
    return COMPOSE["services"][name].get("environment", {})


@pytest.fixture
def container(monkeypatch):
    """The environment of a service in its container: setup's file, then compose's own words."""

    def enter(name: str) -> None:
        settings = Settings(ROOT, Path("/var/lib/ias"))
        for variable in ("DATABASE", "REDIS", "AMQP"):
            monkeypatch.delenv(f"IAS_{variable}_URL", raising=False)
        written = services.environment(settings, Keys(), name)
        for variable, value in {**written, **variables(name)}.items():
            monkeypatch.setenv(variable, value)

    return enter


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_read_its_settings(name, container):
    container(name)
    settings = CLASSES[name]()
    port = {"identity": 8091, "metering": 8092, "inference": 8093}[name]
    assert getattr(settings, f"{name}_listen") == f"0.0.0.0:{port}"
    assert settings.database_url.get_secret_value() == variables(name)["IAS_DATABASE_URL"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_variable_is_set_that_nobody_reads(name):
    known = {f"IAS_{field.upper()}" for cls in CLASSES.values() for field in cls.model_fields}
    assert set(variables(name)) <= known


def test_envoys_variables_are_its_own():
    known = {f"IAS_{field.upper()}" for field in EnvoySettings.model_fields}
    assert set(variables("envoy")) <= known
    assert set(variables("envoy-watch")) == set(variables("envoy")) | {"IAS_REDIS_URL"}


def test_what_is_waited_for_exists():
    for name, service in COMPOSE["services"].items():
        for other, condition in service.get("depends_on", {}).items():
            needed = COMPOSE["services"][other]
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in needed, f"{name} waits for the health of {other}"
            else:
                assert needed["restart"] == "no", f"{name} waits for the end of {other}"


def test_every_volume_is_declared_and_every_declared_one_used():
    used = {
        mount.split(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


def test_only_envoy_is_reachable_and_only_from_this_machine():
    published = {name: s["ports"] for name, s in COMPOSE["services"].items() if "ports" in s}
    assert list(published) == ["envoy"]
    assert all(port.startswith("127.0.0.1:") for port in published["envoy"])


def test_only_identity_gets_the_signing_key():
    settings = Settings(ROOT, Path("/var/lib/ias"))
    for name in SERVICES:
        values = services.environment(settings, Keys(), name)
        assert ("IAS_CALLER_PRIVATE_KEY" in values) == (name == "identity")
        assert ("IAS_KEY_PEPPER" in values) == (name == "identity")
        mounts = " ".join(COMPOSE["services"][name]["volumes"])
        assert re.findall(r"env-(\w+):", mounts) == [name]
        assert "keys:" not in mounts


def test_the_images_are_those_the_platform_is_tested_with():
    images = {name: s["image"] for name, s in COMPOSE["services"].items()}
    assert images["postgres"] == "postgres:15"
    assert images["redis"] == "redis:7"
    assert images["rabbitmq"] == "rabbitmq:3"
