"""What the oracle serves beside chats: completions, embeddings, responses, rerank, tokens.

Steered and counted in the same way: a token for each word of the prompt, one for each chunk.
"""

from __future__ import annotations

import json
from typing import Any

import ias_oracle
from aiohttp import web


def add_routes(app: web.Application, oracle: ias_oracle.Oracle) -> None:
    """Serves them under /v1, and tokens beside it."""
    for path, answer in (
        ("/v1/completions", _complete),
        ("/v1/embeddings", _embed),
        ("/v1/responses", _respond),
        ("/v1/rerank", _rerank),
    ):
        app.router.add_post(path, _handler(oracle, answer))


def _handler(oracle: ias_oracle.Oracle, answer: Any) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        oracle.bodies.append(body)
        oracle.headers.append(dict(request.headers))
        return await answer(oracle, request, body)

    return handle


def _took(oracle: ias_oracle.Oracle, *texts: str) -> tuple[ias_oracle.Produced, int]:
    """The request as counted so far, and how many tokens its answer shall have."""
    words = [word for text in texts for word in text.split()]
    steer = dict(word.split("=", 1) for word in words if "=" in word)
    produced = ias_oracle.Produced(prompt_tokens=len(words))
    oracle.requests.append(produced)
    return produced, int(steer.get("tokens", 12))


def _usage(produced: ias_oracle.Produced) -> dict[str, int]:
    return {
        "prompt_tokens": produced.prompt_tokens,
        "completion_tokens": produced.completion_tokens,
        "total_tokens": produced.prompt_tokens + produced.completion_tokens,
    }


async def _complete(
    oracle: ias_oracle.Oracle, request: web.Request, body: Any
) -> web.StreamResponse:
    prompts = [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]
    produced, planned = _took(oracle, *prompts)
    planned = min(planned, body["max_tokens"])
    common = {"id": "cmpl-oracle", "object": "text_completion", "model": body["model"]}
    common["created"] = 1
    if not body.get("stream"):
        produced.completion_tokens = planned * len(prompts)
        choices = [
            {"index": index, "text": "word " * planned, "finish_reason": "stop", "logprobs": None}
            for index in range(len(prompts))
        ]
        return web.json_response({**common, "choices": choices, "usage": _usage(produced)})
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(planned):
        for index in range(len(prompts)):
            produced.completion_tokens += 1
            choice = {"index": index, "text": f"w{number} ", "finish_reason": None}
            await _send(response, {**common, "choices": [choice], "usage": _usage(produced)})
    for index in range(len(prompts)):
        choice = {"index": index, "text": "", "finish_reason": "stop"}
        await _send(response, {**common, "choices": [choice]})
    await _send(response, {**common, "choices": [], "usage": _usage(produced)})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _embed(oracle: ias_oracle.Oracle, _: web.Request, body: Any) -> web.StreamResponse:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    produced, _planned = _took(oracle, *texts)
    data = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), 0.5]}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": produced.prompt_tokens, "total_tokens": produced.prompt_tokens}
    return web.json_response(
        {"object": "list", "data": data, "model": body["model"], "usage": usage}
    )


async def _rerank(oracle: ias_oracle.Oracle, _: web.Request, body: Any) -> web.StreamResponse:
    documents = body["documents"]
    produced, _planned = _took(oracle, *(body["query"] + " " + text for text in documents))
    results = [
        {"index": index, "relevance_score": 1 / (1 + index)} for index in range(len(documents))
    ]
    usage = {"total_tokens": produced.prompt_tokens}
    return web.json_response({"id": "x", "results": results, "usage": usage})


async def _respond(
    oracle: ias_oracle.Oracle, request: web.Request, body: Any
) -> web.StreamResponse:
    produced, planned = _took(oracle, body["input"])
    planned = min(planned, body["max_output_tokens"])

    def response_of(status: str, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"id": "msg", "type": "message", "role": "assistant", "status": status}
        return {
            "id": "resp_oracle",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "status": status,
            "output": [{**message, "content": [part]}] if text else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": produced.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": produced.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": produced.prompt_tokens + produced.completion_tokens,
            }
            if text
            else None,
        }

    whole = "".join(f"w{number} " for number in range(planned))
    if not body.get("stream"):
        produced.completion_tokens = planned
        return web.json_response(response_of("completed", whole))
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    started = {"type": "response.created", "sequence_number": 0}
    await _send(response, {**started, "response": response_of("in_progress", "")})
    for number in range(planned):
        produced.completion_tokens += 1
        delta = {"type": "response.output_text.delta", "sequence_number": number + 1}
        place = {"item_id": "msg", "output_index": 0, "content_index": 0, "logprobs": []}
        await _send(response, {**delta, **place, "delta": f"w{number} "})
    ended = {"type": "response.completed", "sequence_number": planned + 1}
    await _send(response, {**ended, "response": response_of("completed", whole)})
    return response


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    name = f"event: {event['type']}\n" if "type" in event else ""
    await response.write(f"{name}data: {json.dumps(event)}\n\n".encode())
