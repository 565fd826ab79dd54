"""LangChain's ChatOpenAI against IAS. Prints one JSON object: what each scenario gave.

python langchain_client.py BASE_URL MODEL     the key: IAS_API_KEY
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

BASE_URL, MODEL = sys.argv[1:3]


def chat(key: str | None = None, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=BASE_URL, model=MODEL, api_key=key or os.environ["IAS_API_KEY"], **more
    )


def complete() -> dict[str, Any]:
    turns = [SystemMessage("Be brief."), HumanMessage("[mock tokens=9]")]
    answer = chat().invoke(turns)
    return {"content": answer.content, "usage": answer.usage_metadata}


def stream() -> dict[str, Any]:
    began = time.perf_counter()
    pieces, arrivals, usage = [], [], None
    for chunk in chat(stream_usage=True).stream("[mock tokens=10 pace_ms=40]"):
        usage = chunk.usage_metadata or usage
        if chunk.content:
            pieces.append(chunk.content)
            arrivals.append(round((time.perf_counter() - began) * 1000))
    return {"pieces": pieces, "arrivals_ms": arrivals, "usage": usage}


async def several() -> dict[str, Any]:
    answers = await chat().abatch([f"[mock tokens={n}] hello" for n in (3, 4, 5)])
    return {"tokens": [answer.usage_metadata["output_tokens"] for answer in answers]}


def wrong_key() -> dict[str, Any]:
    try:
        chat("ias_" + "a" * 52).invoke("hi")
    except openai.AuthenticationError as error:
        return {"code": error.code}
    return {}


if __name__ == "__main__":
    report = {
        "complete": complete(),
        "stream": stream(),
        "several": asyncio.run(several()),
        "wrong_key": wrong_key(),
    }
    print(json.dumps(report))
