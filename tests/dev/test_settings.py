"""Where a stack lives, which ports it takes, and how that is told when it can't."""

import socket

import pytest

from ias_dev import keys, ports, urls
from ias_dev.settings import SERVICES, DevError, Ports, Settings, checkout, from_environment


def test_the_default_ports_are_the_documented_ones():
    found = Ports()
    assert (found.envoy, found.envoy_admin) == (8080, 8081)
    assert [found.service(name) for name in SERVICES] == [8091, 8092, 8093]
    assert [found.metrics(name) for name in SERVICES] == [8101, 8102, 8103]
    assert (found.postgres, found.redis, found.rabbitmq) == (8112, 8113, 8114)
    assert (found.rabbitmq_dist, found.epmd) == (8115, 8116)


def test_the_environment_moves_the_stack(monkeypatch):
    monkeypatch.setenv("IAS_DEV_PORT_BASE", "28080")
    monkeypatch.setenv("IAS_DEV_DIR", "elsewhere")
    found = from_environment()
    assert found.url == "http://127.0.0.1:28080"
    assert found.folder == checkout() / "elsewhere"


@pytest.mark.parametrize("base", ["80", "70000", "many"])
def test_a_bad_port_base_is_a_clear_error(monkeypatch, base):
    monkeypatch.setenv("IAS_DEV_PORT_BASE", base)
    with pytest.raises(DevError, match="IAS_DEV_PORT_BASE"):
        from_environment()


def test_a_taken_port_is_named_with_its_owner_and_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DevError) as caught:
            ports.require_free([(port, "Envoy")])
    message = str(caught.value)
    assert str(port) in message
    assert "Envoy" in message
    assert "(pid " in message
    assert "IAS_DEV_PORT_BASE" in message


def test_servers_of_the_environment_replace_private_ones_each_on_its_own(tmp_path):
    known = keys.Keys()
    settings = Settings(tmp_path, tmp_path, external_redis_url="redis://elsewhere:1/0")
    assert urls.redis(settings, known) == "redis://elsewhere:1/0"
    assert urls.database(settings, known) == urls.private_database(settings, known)


def test_the_stacks_own_addresses_in_the_environment_are_not_other_servers(tmp_path):
    known = keys.load(tmp_path)
    own = urls.private_database(Settings(tmp_path, tmp_path), known)
    settings = Settings(
        tmp_path, tmp_path, external_database_url=own, external_amqp_url="amqp://elsewhere/"
    )
    found = urls.without_own(settings)
    assert found.external_database_url == ""
    assert found.external_amqp_url == "amqp://elsewhere/"


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path):
    first = keys.load(tmp_path)
    assert keys.load(tmp_path) == first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(first.key_pepper) >= 32
    assert len(first.mesh_secret) >= 32
    assert "PUBLIC KEY" in first.caller_public_key
