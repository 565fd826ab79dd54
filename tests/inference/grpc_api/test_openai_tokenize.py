"""POST /v1/tokenize and /v1/detokenize, on the mock: what it counts is what it charges."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_support import FakeLeases, Gateway, a_gateway

from ias_inference.adapters.engines import mock_tokens

TEXT = "Grüße, 世界 🌍"
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": TEXT}]


@given(st.text())
def test_every_text_survives_its_tokens(text: str) -> None:
    ids = mock_tokens.encode(text)
    assert len(ids) == mock_tokens.count(text)
    assert mock_tokens.decode(ids) == text


async def test_a_text_is_cut_into_what_it_is_put_together_from(gateway: Gateway) -> None:
    asked = {"model": "mock-gpt", "prompt": TEXT}
    found = (await gateway.post("Tokenize", asked)).json
    assert found["count"] == len(found["tokens"]) > 0
    assert found["token_strs"] is None
    back = await gateway.post("Detokenize", {"model": "mock-gpt", "tokens": found["tokens"]})
    assert back.json == {"prompt": TEXT}
    shown = (await gateway.post("Tokenize", asked | {"return_token_strs": True})).json
    assert len(shown["token_strs"]) == found["count"]


async def test_what_is_counted_is_what_a_chat_is_charged(gateway: Gateway) -> None:
    counted = (await gateway.post("Tokenize", {"model": "mock-gpt", "messages": CHAT})).json
    answer = await gateway.chat_completion({"model": "mock-gpt", "messages": CHAT})
    assert answer.json["usage"]["prompt_tokens"] == counted["count"] == len(counted["tokens"])


async def test_counting_draws_and_records_nothing() -> None:
    async with a_gateway(FakeLeases(0)) as gateway:
        gateway.mock(context_length=1000)
        found = await gateway.post("Tokenize", {"model": "mock-gpt", "prompt": TEXT})
        assert found.status == 200
        assert found.json["max_model_len"] == 1000
        assert gateway.leases.settled == []
        assert gateway.recorder.events == []


@pytest.mark.parametrize(
    ("method", "body", "param"),
    [
        ("Tokenize", {}, "prompt"),
        ("Tokenize", {"prompt": "a", "messages": CHAT}, "prompt"),
        ("Tokenize", {"messages": []}, "messages"),
        ("Tokenize", {"prompt": ["a"]}, "prompt"),
        ("Tokenize", {"prompt": "a", "chat_template": "x"}, "chat_template"),
        ("Detokenize", {}, "tokens"),
        ("Detokenize", {"tokens": "a"}, "tokens"),
        ("Detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("Detokenize", {"tokens": [2**30]}, "tokens"),
    ],
)
async def test_a_bad_field_is_named(
    gateway: Gateway, method: str, body: dict[str, Any], param: str
) -> None:
    answer = await gateway.post(method, {"model": "mock-gpt"} | body)
    assert answer.status == 400
    assert answer.error["param"] == param
