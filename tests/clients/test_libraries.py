"""The client libraries that people use with OpenAI, unchanged, against the whole system."""

import pytest

pytestmark = pytest.mark.slow
ALL = ["openai-node", "vercel", "langchain", "llama-index"]
TOKENS = {
    "openai-node": ("prompt_tokens", "completion_tokens", "total_tokens"),
    "vercel": ("inputTokens", "outputTokens", "totalTokens"),
    "langchain": ("input_tokens", "output_tokens", "total_tokens"),
    "llama-index": ("prompt_tokens", "completion_tokens", "total_tokens"),
}
"""What each calls the numbers of a usage."""


@pytest.mark.parametrize("library", ALL)
async def test_a_chat_completes_with_its_usage(report_of, library):
    found = (await report_of(library))["complete"]
    assert len(found["content"].split()) == 9
    prompt, completion, total = (found["usage"][name] for name in TOKENS[library])
    assert completion == 9
    assert total == prompt + completion > 9


@pytest.mark.parametrize("library", ALL)
async def test_a_stream_arrives_piece_by_piece(report_of, library):
    found = (await report_of(library))["stream"]
    assert len(found["pieces"]) == 10
    assert found["arrivals_ms"][-1] - found["arrivals_ms"][0] > 200, (
        "each waited for the one before"
    )
    assert len("".join(found["pieces"]).split()) == 10
    if library != "llama-index":  # which shows no usage of a stream
        assert found["usage"][TOKENS[library][1]] == 10


@pytest.mark.parametrize("library", ALL)
async def test_a_wrong_key_is_told_as_such(report_of, library):
    assert (await report_of(library))["wrong_key"]["code"] == "invalid_api_key"


async def test_several_chats_at_once_through_langchain(report_of):
    assert (await report_of("langchain"))["several"]["tokens"] == [3, 4, 5]


async def test_llama_index_completes_a_prompt_and_streams_in_asyncio(report_of):
    found = await report_of("llama-index")
    assert len(found["complete"]["prompted"].split()) == 4
    assert len(found["asynchronous"]["pieces"]) == 6


@pytest.mark.parametrize(
    ("scenario", "raised", "status", "code"),
    [
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
        ("unknown_model", "NotFoundError", 404, "model_not_found"),
        ("unknown_model_streamed", "NotFoundError", 404, "model_not_found"),
        ("bad_request", "BadRequestError", 400, None),
        ("used_up", "RateLimitError", 429, "insufficient_quota"),
        ("used_up_streamed", "RateLimitError", 429, "insufficient_quota"),
    ],
)
async def test_typescripts_openai_throws_the_right_class_and_does_not_try_again(
    report_of, scenario, raised, status, code
):
    found = (await report_of("openai-node"))[scenario]
    assert (found["class"], found["status"], found["code"]) == (raised, status, code)
    assert found["is_api_error"]
    assert found["requests"] == 1
    assert found["requestID"]


async def test_typescripts_openai_learns_which_field_and_which_budget(report_of):
    found = await report_of("openai-node")
    assert found["bad_request"]["param"] == "temperature"
    assert found["unknown_model"]["param"] == "model"
    assert found["used_up"]["type"] == "insufficient_quota"
    assert "organization" in found["used_up"]["message"]


async def test_typescripts_openai_reads_models_and_its_helper_collects_a_stream(report_of, stack):
    found = await report_of("openai-node")
    assert stack.model in found["models"]["names"]
    assert found["models"]["retrieved"] == stack.model
    assert found["helper"]["content"] == "".join(found["helper"]["pieces"])
    assert len(found["helper"]["pieces"]) == 7


async def test_typescripts_openai_throws_when_the_engine_fails_in_mid_stream(report_of):
    found = (await report_of("openai-node"))["mid_stream"]
    assert (found["class"], found["seen"]) == ("APIError", 3)


async def test_a_loop_over_a_stream_that_is_left_frees_the_engine(report_of, stack):
    assert (await report_of("openai-node"))["leave"]["seen"] == 3
    await stack.mock_idle(seconds=2)


@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [
        ("wrong_key", 401, "invalid_api_key"),
        ("unknown_model", 404, "model_not_found"),
        ("used_up", 429, "insufficient_quota"),
    ],
)
async def test_vercels_sdk_throws_an_api_error_that_says_why(report_of, scenario, status, code):
    found = (await report_of("vercel"))[scenario]
    assert (found["status"], found["code"]) == (status, code)
    assert found["is_api_error"]
    assert found["message"]
