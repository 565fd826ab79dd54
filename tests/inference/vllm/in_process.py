"""Run by .venv-vllm's Python: drives the engine without anything in front of it, and reports.

    python in_process.py chat MODEL      lean path and serving objects compared; aborts; refusals
    python in_process.py embed MODEL     embeddings, scores, tokens

Prints one JSON object, which the tests beside this file assert on.
"""

import asyncio
import json
import random
import sys
from typing import Any

from ias_inference.adapters.engines.vllm.engine import VllmEngine
from ias_inference.domain import jobs
from ias_inference.domain.engines import Job, Operation, Request
from ias_inference.domain.models import Backend, EngineKind, Model
from ias_runtime.caller import Caller, CallerKind
from ias_runtime.errors import IasError

NAME = "public/tiny"
MODEL = Model(NAME, (Backend(EngineKind.VLLM, "grpc://127.0.0.1:1", "tiny"),))
REQUESTS = 320
WORDS = ["budget", "lease", "token", "key", "Envoy", "42", "naïve", "你好", "🌍", "<|im_end|>"]
WORDS += ["{}", "\n\n", "…", "don't", ""]


def main() -> None:
    what, path = sys.argv[1:]
    flags = ["--model", path, "--served-model-name", "tiny"]
    if what == "chat":
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    report = asyncio.run({"chat": chat, "embed": embed}[what](VllmEngine(flags, "s" * 32)))
    sys.stdout.write("\nREPORT " + json.dumps(report) + "\n")


def a_job(request: Request, estimate: Any, organization: str = "o", limit: int = 10**9) -> Job:
    caller = Caller(kind=CallerKind.API_KEY, organization_id=organization)
    most = jobs.longest_answer(MODEL, request, estimate)
    job = jobs.new_job(caller, "r", MODEL, request, estimate, max_tokens=most)
    job.limit = limit
    return job


def a_request(
    operation: Operation, streamed: bool = False, include_usage: bool = False, **body: Any
) -> Request:
    prompt = body.get("prompt", body.get("input", ()))
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return Request(
        operation,
        NAME,
        body,
        100,
        streamed=streamed,
        max_tokens=body.get("max_tokens", body.get("max_output_tokens")),
        n=body.get("n", 1),
        inputs=() if operation is Operation.CHAT else prompt if several else [prompt],
        include_usage=include_usage,
    )


async def run(
    engine: VllmEngine, request: Request, *, lean: bool, organization: str
) -> dict[str, Any]:
    """What a client sees of it, as far as both ways must agree."""
    if lean:
        estimate = await engine._lean.prepare(request)
        assert estimate is not None, request.body
        path: Any = engine._lean
    else:
        estimate = await engine._generation.prepare(NAME, request)
        path = engine._generation
    job = a_job(request, estimate, organization)
    if request.streamed:
        chunks = [json.loads(c) async for batch in path.stream(job) for c in batch]
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        text = "".join(
            (c["text"] if "text" in c else c["delta"].get("content")) or "" for c in choices
        )
        last = choices[-1]
        told = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
        usage = told[-1] if told else None
    else:
        answer = json.loads(await path.complete(job))
        last, usage = answer["choices"][0], answer["usage"]
        text = last["text"] if "text" in last else last["message"]["content"]
    return {
        "text": text,
        "finish_reason": last["finish_reason"],
        "stop_reason": last["stop_reason"],
        "told": usage and [usage[f"{part}_tokens"] for part in ("prompt", "completion", "total")],
        "counted": [job.usage.prompt_tokens, job.usage.completion_tokens],
        "estimated": estimate.prompt_tokens,
    }


def varied(rng: random.Random) -> Request:
    """A plain request of many possible kinds."""

    def text(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    body: dict[str, Any] = {
        "max_tokens": rng.randint(1, 24),
        "seed": rng.randint(-(2**40), 2**40),
    }
    choices: dict[str, list[Any]] = {
        "temperature": [0, 0.3, 1.0, 1.9],
        "top_p": [0.1, 0.8, 1],
        "top_k": [1, 5, 40, -1],
        "min_p": [0.0, 0.2],
        "presence_penalty": [-1.5, 1.0],
        "frequency_penalty": [-0.5, 2.0],
        "repetition_penalty": [1.2],
        "min_tokens": [1],
        "ignore_eos": [True],
        "skip_special_tokens": [False, True],
        "include_stop_str_in_output": [True],
        "stop": ["e", ["a", "or"], [" ", "th"], "zzzzzz"],
        "stop_token_ids": [[5, 300, 700]],
    }
    for name, values in choices.items():
        if rng.random() < 0.3:
            body[name] = rng.choice(values)
    if rng.random() < 0.35:
        body["prompt"] = (
            "So " + text(40) if rng.random() < 0.7 else [rng.randrange(3, 2000) for _ in range(20)]
        )
        operation = Operation.COMPLETION
    else:
        turns = [{"role": "user", "content": text(30)}]
        for _ in range(rng.randint(0, 2)):
            turns += [
                {"role": "assistant", "content": text(10)},
                {"role": "user", "content": text(10)},
            ]
        if rng.random() < 0.4:
            turns.insert(0, {"role": "system", "content": text(12)})
        body["messages"] = turns
        operation = Operation.CHAT
    return a_request(
        operation, streamed=rng.random() < 0.5, include_usage=rng.random() < 0.7, **body
    )


async def chat(engine: VllmEngine) -> dict[str, Any]:
    await engine.start()
    try:
        return {
            "compared": await compared(engine),
            "aborted": await aborted(engine),
            "refused": await refused(engine),
            "room": await room(engine),
            "salts": [engine._lean._salt_of(o) == engine._lean._salt_of("a") for o in ("a", "b")],
        }
    finally:
        await engine.stop()


async def compared(engine: VllmEngine) -> dict[str, Any]:
    rng = random.Random(7)
    differ, streamed, finishes = [], 0, set()
    for _ in range(REQUESTS):
        request = varied(rng)
        # Organisations of their own, so that neither finds the other's prefix in the cache.
        mine = await run(engine, request, lean=True, organization="a")
        theirs = await run(engine, request, lean=False, organization="b")
        streamed += request.streamed
        finishes.add(f"{mine['finish_reason']} {type(mine['stop_reason']).__name__}")
        if mine != theirs:
            differ.append({"request": dict(request.body), "lean": mine, "serving": theirs})
    return {"differ": differ, "streamed": streamed, "finishes": sorted(finishes)}


async def aborted(engine: VllmEngine) -> list[dict[str, Any]]:
    """What is left of requests whose clients have gone, and what is charged for them."""
    found = []
    messages = [{"role": "user", "content": "Go on."}]
    # The first log probabilities take vLLM a second, in which nothing is produced.
    first = a_request(Operation.CHAT, messages=messages, max_tokens=1, logprobs=True)
    await engine.complete(a_job(first, await engine.prepare(MODEL, first)))
    await produced_until_idle(engine)
    for streamed in (False, True):
        for extra in ({}, {"logprobs": True}, {"n": 3}):
            request = a_request(
                Operation.CHAT,
                streamed=streamed,
                messages=messages,
                max_tokens=1900,
                ignore_eos=True,
                **extra,
            )
            job = a_job(request, await engine.prepare(MODEL, request))

            async def consume(job: Job = job, streamed: bool = streamed) -> None:
                if streamed:
                    async for _ in engine.stream(job):
                        pass
                else:
                    await engine.complete(job)

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.4)
            task.cancel()
            await asyncio.wait([task])
            charged = job.usage.completion_tokens
            produced = await produced_until_idle(engine)
            found.append(
                {
                    "path": type(job.prepared).__name__,
                    "streamed": streamed,
                    "cancelled": task.cancelled(),
                    "unfinished": engine._process.llm.get_num_unfinished_requests(),
                    "charged": charged,
                    "charged_later": job.usage.completion_tokens,
                    "prompt": job.usage.prompt_tokens,
                    "produced": produced,
                }
            )
    return found


_before = 0


async def produced_until_idle(engine: VllmEngine) -> int:
    """Tokens that the engine counts since the last call, once it runs nothing any more."""
    global _before
    from prometheus_client import REGISTRY

    def sample(name: str) -> float:
        labels = {"model_name": "tiny", "engine": "0"}
        return REGISTRY.get_sample_value(name, labels) or 0.0

    async with asyncio.timeout(2):
        # One more request makes the engine report the state after the abort.
        probe = a_request(Operation.CHAT, messages=[{"role": "user", "content": "x"}], max_tokens=1)
        await engine.complete(a_job(probe, await engine.prepare(MODEL, probe)))
        while sample("vllm:num_requests_running"):
            await asyncio.sleep(0.02)
    now = int(sample("vllm:generation_tokens_total"))
    since, _before = now - _before, now
    return since - 1


async def refused(engine: VllmEngine) -> dict[str, Any]:
    said = [{"role": "user", "content": "Hello"}]
    image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}]
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    cases = {
        "too long": {"messages": said, "max_tokens": 5000},
        "far too long": {"messages": [{"role": "user", "content": "x" * 200_000}]},
        "token of no vocabulary": {"messages": said, "stop_token_ids": [10**6], "max_tokens": 4},
        "image": {"messages": [{"role": "user", "content": image}], "max_tokens": 4},
        "schema": {"messages": said, "response_format": schema, "max_tokens": 4},
        "tool that is not there": {
            "messages": said,
            "tools": tools,
            "tool_choice": {"type": "function", "function": {"name": "g"}},
            "max_tokens": 4,
        },
        "top_p": {"messages": said, "top_p": 0, "max_tokens": 4},
    }
    found = {}
    for name, body in cases.items():
        found[name] = await outcome(engine, a_request(Operation.CHAT, **body))
    found["embedding"] = await outcome(engine, a_request(Operation.EMBEDDING, input="x"))
    return found


async def outcome(engine: VllmEngine, request: Request) -> list[str]:
    try:
        job = a_job(request, await engine.prepare(MODEL, request))
        await engine.complete(job)
    except IasError as error:
        return [type(error).__name__, error.metadata.get("field", ""), error.message]
    return ["served"]


async def room(engine: VllmEngine) -> dict[str, Any]:
    """A stream whose draw is used up pauses at exactly that token, until there is room."""
    request = a_request(
        Operation.CHAT,
        streamed=True,
        messages=[{"role": "user", "content": "Count."}],
        max_tokens=40,
        ignore_eos=True,
    )
    estimate = await engine.prepare(MODEL, request)
    job = a_job(request, estimate, limit=estimate.prompt_tokens + 7)
    seen = []
    stream = engine.stream(job)
    async for _ in stream:
        seen.append(job.usage.completion_tokens)
        if job.room <= 0:
            if len(seen) > 30:
                break
            await asyncio.sleep(0.05)  # the engine runs on meanwhile
            job.limit += 5
    return {"seen": seen, "most": job.usage.completion_tokens}


async def embed(engine: VllmEngine) -> dict[str, Any]:
    await engine.start()
    try:

        async def answer(operation: Operation, **body: Any) -> Any:
            request = a_request(operation, **body)
            job = a_job(request, await engine.prepare(MODEL, request))
            answered = json.loads(await engine.complete(job))
            return {"answer": answered, "counted": job.usage.prompt_tokens}

        long = a_request(Operation.EMBEDDING, input="word " * 3000)
        return {
            "float": await answer(Operation.EMBEDDING, input=["one", "and another"]),
            "base64": await answer(
                Operation.EMBEDDING, input=["one", "and another"], encoding_format="base64"
            ),
            "tokens": await answer(Operation.TOKENIZE, prompt="one"),
            "score": await answer(Operation.SCORE, text_1="one", text_2=["one", "two"]),
            "rerank": await answer(Operation.RERANK, query="one", documents=["two", "one"]),
            "long": await outcome(engine, long),
            "chat": await outcome(
                engine, a_request(Operation.CHAT, messages=[{"role": "user", "content": "x"}])
            ),
        }
    finally:
        await engine.stop()


if __name__ == "__main__":
    main()
