"""The engine alone, for tests/bench/vllm.py: AsyncLLM.generate driven directly, in .venv-vllm.

Reads one JSON object per line (clients, streamed, seconds, tokens, messages) and answers each with
a line `bench:rate R`, in requests per second.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import Any


async def main() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(model=sys.argv[1])
    llm = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments)
    say("ready")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        say(f"rate {await drive(llm, **asked):.1f}")
    llm.shutdown(timeout=5)


def say(text: str) -> None:
    sys.stdout.write(f"bench:{text}\n")
    sys.stdout.flush()


async def drive(
    llm: Any, clients: int, streamed: bool, seconds: float, tokens: int, messages: list[Any]
) -> float:
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    tokenizer = llm.get_tokenizer()
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    kind = RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY
    done = 0
    started = time.perf_counter()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < started + seconds:
            params = SamplingParams(
                max_tokens=tokens, temperature=0, ignore_eos=True, output_kind=kind
            )
            async for _ in llm.generate(tokens_input(list(prompt)), params, uuid.uuid4().hex):
                pass
            done += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
