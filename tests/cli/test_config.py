"""`ias-admin config`, and where IAS is looked for."""

import pytest


def test_an_address_is_remembered(cli, ias):
    address = cli.env["IAS_GRPC"]
    result = cli("config", "set", "address", address)
    assert "IAS_GRPC is set" in result.stderr
    cli.env["IAS_GRPC"] = None
    assert cli.json("config", "show")["address"] == ias.address


def test_a_flag_goes_before_the_environment(cli):
    assert cli.json("config", "show", "--grpc", "other:99")["address"] == "other:99"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ias.example", "ias.example:8080"),
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("https://ias.example", "https://ias.example:443"),
        ("https://ias.example:8443/", "https://ias.example:8443"),
        ("[::1]:8080", "[::1]:8080"),
    ],
)
def test_an_address_may_be_written(cli, written, meant):
    assert cli.json("config", "show", "--grpc", written)["address"] == meant


@pytest.mark.parametrize("written", ["ftp://x", "host:port", "http://", "http://a:b@host"])
def test_an_address_that_is_none_is_wrong_usage(cli, written):
    assert cli("config", "show", "--grpc", written).exit_code == 2


def test_an_output_is_remembered(admin):
    admin.ok("config", "set", "output", "csv")
    assert admin.ok("org", "list").startswith("id,name")
    assert admin("config", "set", "output", "xml").exit_code == 2
    assert admin("config", "set", "color", "red").exit_code == 2


def test_who_is_signed_in_is_shown(admin):
    shown = admin.json("config", "show")
    assert shown["session"]["email"] == "ops@example.com"
    assert set(shown["session"]) == {"email", "refresh_expire_time"}


@pytest.mark.parametrize("content", ["{", "[1]", "sessions: 5", "sessions: {a: {email: b}}"])
def test_a_broken_file_is_told_and_not_overwritten(cli, content):
    cli.config.parent.mkdir()
    cli.config.write_text(content)
    result = cli("org", "list")
    assert result.exit_code == 1
    assert "not a configuration" in result.stderr
    assert cli("config", "set", "output", "json").exit_code == 1
    assert cli.config.read_text() == content
