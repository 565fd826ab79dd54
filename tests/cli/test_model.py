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
    (backend,) = model.backends
    assert backend.engine == models_pb2.ENGINE_KIND_OPENAI
    assert backend.upstream_model == "up"
    assert (model.prompt_price_nanos, model.completion_price_nanos) == (150_000_000, 1)
    shown = admin.json("model", "get", "org/llama")
    assert shown["prompt_price"] == "0.15"
    assert shown["completion_price"] == "0.000000001"
    assert shown["backend"]["engine"] == "openai"
    assert shown["enabled"] is True


def test_the_servers_key_is_read_from_stdin_and_never_shown(admin, ias):
    result = add(admin, "--api-key-stdin", stdin="upstream-secret\n")
    assert ias.requests[-1].model.backends[0].api_key == "upstream-secret"
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
    assert header.startswith("name,display_name,enabled,kind,aliases,backend.engine")
    assert row.startswith("a,,true,")
    assert ",mock," in row


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


def test_backends_are_given_one_by_one_with_weights_and_keys(admin, ias, monkeypatch):
    monkeypatch.setenv("GPU2_KEY", "second-secret")
    admin.ok(
        "model", "add", "big", "--upstream-model", "org/big",
        "--backend", "http://gpu1:8000/v1,weight=3",
        "--backend", "http://gpu2:8000/v1,model=other,key-env=GPU2_KEY",
    )  # fmt: skip
    one, two = ias.requests[-1].model.backends
    assert (one.url, one.weight, one.upstream_model) == ("http://gpu1:8000/v1", 3, "org/big")
    assert (two.upstream_model, two.api_key) == ("other", "second-secret")
    shown = admin.ok("model", "get", "big")
    assert "gpu1:8000/v1  weight 3, org/big" in shown
    assert "second-secret" not in shown


@pytest.mark.parametrize(
    "backend", ["http://h,weight=0", "http://h,weight=x", "http://h,speed=2", "http://h,key-env=NO"]
)
def test_a_backend_that_makes_no_sense_is_wrong_usage(admin, backend, ias):
    assert admin("model", "add", "big", "--backend", backend).exit_code == 2
    assert not ias.models


def test_everything_about_a_model_can_be_given(admin, ias):
    org = admin.json("org", "get", "acme")["id"]
    admin.ok(
        "model", "add", "embedder", "--url", "http://h:1/v1", "--kind", "embedding",
        "--alias", "text-embedding-3-small", "--alias", "e", "--org", "acme",
        "--default-max-output-tokens", "64", "--allow-chat-template-kwargs",
        "--default-parameters", '{"temperature": 0.2, "stop": ["a", "b"]}',
    )  # fmt: skip
    model = ias.requests[-1].model
    assert model.kind == models_pb2.MODEL_KIND_EMBEDDING
    assert list(model.aliases) == ["text-embedding-3-small", "e"]
    assert list(model.organization_ids) == [org]
    assert model.default_max_output_tokens == 64
    assert model.allow_chat_template_kwargs
    assert dict(model.default_parameters)["temperature"] == 0.2
    shown = admin.json("model", "get", "e")
    assert shown["name"] == "embedder", "an alias names its model"
    assert shown["default_parameters"] == {"temperature": 0.2, "stop": ["a", "b"]}
    assert "acme" in admin.ok("model", "get", "embedder"), "organisations by their names"


def test_default_parameters_must_be_an_object(admin, ias):
    for text in ("[1]", "{", "3"):
        result = admin("model", "add", "m", "--engine", "mock", "--default-parameters", text)
        assert result.exit_code == 2
    assert not ias.models


def test_an_update_changes_what_is_given_and_nothing_else(admin, ias):
    add(admin, "--prompt-price", "0.15", "--alias", "llama")
    admin.ok("model", "update", "llama", "--completion-price", "0.60")
    request = ias.requests[-1]
    assert list(request.update_mask.paths) == ["completion_price_nanos"]
    shown = admin.json("model", "get", "org/llama")
    assert (shown["prompt_price"], shown["completion_price"]) == ("0.15", "0.60")
    admin.ok("model", "update", "org/llama", "--no-aliases", "--all-orgs")
    assert list(ias.requests[-1].update_mask.paths) == ["aliases", "organization_ids"]
    assert admin.json("model", "get", "org/llama")["aliases"] == []
    assert admin("model", "update", "org/llama").exit_code == 2


def test_a_backend_that_stays_keeps_its_key(admin, ias):
    add(admin, "--api-key-stdin", stdin="upstream-secret\n")
    admin.ok(
        "model", "update", "org/llama", "--backend", "http://10.0.0.7:8000/v1,weight=2",
        "--backend", "http://10.0.0.8:8000/v1",
    )  # fmt: skip
    kept, new = ias.requests[-1].model.backends
    assert (kept.api_key, kept.weight, new.api_key) == ("********", 2, "")
    assert kept.engine == models_pb2.ENGINE_KIND_OPENAI


def test_a_model_is_removed_only_with_consent(admin, ias):
    add(admin)
    assert admin("model", "remove", "org/llama").exit_code == 2
    assert ias.models
    admin.ok("model", "remove", "org/llama", "--yes")
    assert not ias.models
    assert admin("model", "remove", "org/llama", "--yes").exit_code == 4


def test_a_check_tells_of_each_backend_and_fails_when_one_has_problems(admin):
    admin.ok("model", "add", "good", "--url", "http://h:1/v1")
    assert admin.json("model", "check", "good")[0]["served_models"] == ["up"]
    admin.ok("model", "add", "bad", "--backend", "http://h:1/v1", "--backend", "http://dead:1/v1")
    result = admin("model", "check", "bad")
    assert result.exit_code == 1
    assert "It can't be reached." in result.output
    assert "1 of 2 backends of bad" in result.stderr
