"""`ias-admin model`."""

import pytest
from ias.inference.v1 import models_pb2


def add(cli, *more, stdin=""):
    return cli("model", "add", "org/llama", "--url", "http://10.0.0.7:8000/v1", *more, stdin=stdin)


def test_a_model_is_registered_with_exact_prices(admin, ias):
    more = ("--upstream-model", "up", "--prompt-price", "0.15", "--completion-price", "0.000000001")
    more += ("--context-length", "32768", "--max-output-tokens", "512", "--engine", "openai")
    assert add(admin, *more).exit_code == 0
    model = ias.requests[-1].model
    assert model.backend.engine == models_pb2.ENGINE_KIND_OPENAI
    assert model.backend.upstream_model == "up"
    assert (model.prompt_price_nanos, model.completion_price_nanos) == (150_000_000, 1)
    shown = admin.json("model", "get", "org/llama")
    assert shown["prompt_price"] == "0.15"
    assert shown["completion_price"] == "0.000000001"
    assert shown["backend"]["engine"] == "openai"
    assert shown["enabled"] is True


def test_the_servers_key_is_read_from_stdin_and_never_shown(admin, ias):
    result = add(admin, "--api-key-stdin", stdin="upstream-secret\n")
    assert ias.requests[-1].model.backend.api_key == "upstream-secret"
    everything = result.output + admin.ok("model", "list", "-o", "json")
    assert "upstream-secret" not in everything


@pytest.mark.parametrize(
    "price", ["-1", "cheap", "0.0000000001", "NaN", "Infinity", "1e400", "1e999999"]
)
def test_a_price_that_is_none_is_wrong_usage(admin, price, ias):
    assert add(admin, f"--prompt-price={price}").exit_code == 2
    assert not ias.models


def test_the_openai_engine_needs_a_url(admin):
    result = admin("model", "add", "llama", "--engine", "openai")
    assert result.exit_code == 2
    assert "--url" in result.stderr


def test_models_are_listed_over_all_pages(admin):
    for name in ("a", "b", "c"):
        admin.ok("model", "add", name, "--engine", "mock")
    assert admin.ok("model", "list", "-q").split() == ["a", "b", "c"]
    assert "enabled" in admin.ok("model", "list")
    header, row, *_ = admin.csv("model", "list")
    assert header.startswith("name,display_name,enabled,backend.engine")
    assert row.startswith("a,,true,mock")


def test_a_model_is_disabled_only_with_consent_and_enabled_without(admin, ias):
    admin.ok("model", "add", "a", "--engine", "mock")
    assert admin("model", "disable", "a").exit_code == 2
    assert ias.models["a"].enabled
    assert admin.json("model", "disable", "a", "--yes")["enabled"] is False
    assert admin.json("model", "enable", "a")["enabled"] is True


def test_an_unknown_model_is_not_found_and_a_developer_not_allowed(admin, signed_in):
    assert admin("model", "get", "nothing").exit_code == 4
    ben = signed_in("ben@acme.org")
    result = ben("model", "list")
    assert result.exit_code == 3
    assert "ias-admin whoami" in result.stderr
