"""`ias-admin chat`."""

import json

import pytest
from ias.inference.v1 import chat_pb2, models_pb2

from .fake_ias import SECRET_KEY


@pytest.fixture
def keyed(cli, ias):
    """ias-admin with an API key in the environment, and one model."""
    cli.env["IAS_API_KEY"] = SECRET_KEY
    ias.models["mock-gpt"] = models_pb2.Model(name="mock-gpt")
    return cli


def test_an_answer_goes_to_stdout_and_its_usage_to_stderr(keyed):
    result = keyed("chat", "mock-gpt", "-m", "Hi")
    assert result.stdout == "Hello, world\n"
    assert "mock-gpt: 1,234 prompt + 3 answer = 1,237 tokens" in result.stderr
    assert SECRET_KEY not in result.output


def test_what_is_piped_in_is_asked(keyed, ias):
    keyed.ok("chat", "mock-gpt", "--system", "Be brief.", "--max-tokens", "5", stdin="Hi\nthere\n")
    request = ias.requests[-1]
    assert [(turn.role, turn.content) for turn in request.messages] == [
        (chat_pb2.CHAT_ROLE_SYSTEM, "Be brief."),
        (chat_pb2.CHAT_ROLE_USER, "Hi\nthere"),
    ]
    assert request.parameters.max_tokens == 5
    assert not request.parameters.HasField("temperature")


def test_json_holds_answer_and_usage(keyed):
    answer = json.loads(keyed.ok("chat", "mock-gpt", "-m", "Hi", "-o", "json"))
    assert answer["content"] == "Hello, world"
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 1237


def test_the_only_model_is_meant_when_none_is_named(keyed, ias):
    keyed.ok("chat", "-m", "Hi")
    assert ias.requests[-1].model == "mock-gpt"
    ias.models["other"] = models_pb2.Model(name="other")
    result = keyed("chat", "-m", "Hi")
    assert result.exit_code == 2
    assert "mock-gpt, other" in result.stderr


def test_the_demo_key_and_model_are_taken_from_the_environment(keyed, ias):
    keyed.env |= {"IAS_API_KEY": None, "IAS_DEMO_API_KEY": SECRET_KEY, "IAS_DEMO_MODEL": "mock-gpt"}
    keyed.ok("chat", "-m", "Hi")


def test_a_flag_goes_before_the_environments_key(keyed):
    result = keyed("chat", "mock-gpt", "--key", "ias_wrong", "-m", "Hi")
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        "Error: Incorrect API key.",
        "Check the API key of --key or IAS_API_KEY.",
    ]


def test_without_a_key_there_is_no_chat(cli):
    assert cli("chat", "mock-gpt", "-m", "Hi").exit_code == 2


def test_an_unknown_model_is_not_found(keyed):
    assert keyed("chat", "nothing", "-m", "Hi").exit_code == 4


def test_a_stream_that_breaks_keeps_what_came_and_fails(keyed, ias):
    ias.stream_fails = True
    result = keyed("chat", "mock-gpt", "-m", "Hi")
    assert result.exit_code == 1
    assert result.stdout == "Hello\n"
    assert "budget get" in result.stderr


def test_an_empty_question_is_wrong_usage(keyed):
    assert keyed("chat", "mock-gpt", "-m", "").exit_code == 2
    assert keyed("chat", "mock-gpt", stdin="\n").exit_code == 2
