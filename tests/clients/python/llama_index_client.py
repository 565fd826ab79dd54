"""LlamaIndex's OpenAILike against IAS. Prints one JSON object: what each scenario gave.

python llama_index_client.py BASE_URL MODEL     the key: IAS_API_KEY
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

import openai
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

BASE_URL, MODEL = sys.argv[1:3]


def model(key: str | None = None) -> OpenAILike:
    return OpenAILike(
        api_base=BASE_URL,
        model=MODEL,
        api_key=key or os.environ["IAS_API_KEY"],
        is_chat_model=True,
        context_window=8192,
        max_retries=0,
    )


def turns(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=text)]


def complete() -> dict[str, Any]:
    answer = model().chat(turns("[mock tokens=9]"))
    return {
        "content": answer.message.content,
        "usage": answer.raw.usage.model_dump(),
        "prompted": model().complete("[mock tokens=4]").text,
    }


def stream() -> dict[str, Any]:
    began = time.perf_counter()
    pieces, arrivals = [], []
    for chunk in model().stream_chat(turns("[mock tokens=10 pace_ms=40]")):
        if chunk.delta:
            pieces.append(chunk.delta)
            arrivals.append(round((time.perf_counter() - began) * 1000))
    return {"pieces": pieces, "arrivals_ms": arrivals}


async def asynchronous() -> dict[str, Any]:
    pieces = [chunk.delta async for chunk in await model().astream_chat(turns("[mock tokens=6]"))]
    return {"pieces": [piece for piece in pieces if piece]}


def wrong_key() -> dict[str, Any]:
    try:
        model("ias_" + "a" * 52).chat(turns("hi"))
    except openai.AuthenticationError as error:
        return {"code": error.code}
    return {}


if __name__ == "__main__":
    report = {
        "complete": complete(),
        "stream": stream(),
        "asynchronous": asyncio.run(asynchronous()),
        "wrong_key": wrong_key(),
    }
    print(json.dumps(report))
