"""Jobs: how long an answer may get, what an engine is handed, and how a cut stream ends."""

import json
from datetime import UTC, datetime

from ias_inference.domain import event_id
from ias_inference.domain.engines import Estimate, Job, Operation, Request
from ias_inference.domain.errors import ContextLengthExceeded
from ias_inference.domain.models import Model
from ias_inference.domain.usage import Usage
from ias_runtime.caller import Caller


def new_job(
    caller: Caller,
    request_id: str,
    model: Model,
    request: Request,
    estimate: Estimate,
    *,
    max_tokens: int,
) -> Job:
    """An admitted request's job. Its lease and its limit are still to be set."""
    identifier = event_id.new()
    now = datetime.now(UTC)
    usage = Usage(
        event_id=str(identifier),
        occurred_at=now,
        organization_id=caller.organization_id,
        user_id=caller.user_id,
        api_key_id=caller.api_key_id,
        model=model.real_name,
        operation=request.operation.value,
        request_id=request_id,
        streamed=request.streamed,
        prompt_price_nanos=model.prompt_price_nanos,
        completion_price_nanos=model.completion_price_nanos,
    )
    return Job(
        model=model,
        backend=model.backend,
        request=request,
        completion_id=_ID_PREFIXES[request.operation] + identifier.hex,
        created=int(now.timestamp()),
        usage=usage,
        prompt_tokens=estimate.prompt_tokens,
        max_tokens=max_tokens,
        prepared=estimate.prepared,
    )


def longest_answer(model: Model, request: Request, estimate: Estimate) -> int:
    """Tokens that one answer may have, 0 for one that has none. Raises ContextLengthExceeded."""
    generates = request.operation.generates
    asked = request.max_tokens
    bound = model.unasked_output_tokens
    if asked is not None:
        bound = min(model.max_output_tokens, asked)
    if model.context_length:
        prompt = estimate.largest_prompt or estimate.prompt_tokens
        left = model.context_length - prompt
        least = 0 if not generates else 1 if asked is None else asked
        # A guess must not refuse what the engine would serve; the engine itself will count.
        if estimate.exact and left < least:
            raise ContextLengthExceeded(
                model.context_length, prompt, least, _PROMPT_FIELDS[request.operation]
            )
        if asked is None and left > 0:
            bound = min(bound, left)
    if estimate.longest is not None:
        bound = min(bound, estimate.longest)
    if not generates or asked == 0:
        return 0
    return max(bound, 1)


_ID_PREFIXES = {
    Operation.CHAT: "chatcmpl-",
    Operation.COMPLETION: "cmpl-",
    Operation.RESPONSE: "resp_",
    Operation.EMBEDDING: "embd-",
    Operation.RERANK: "rerank-",
    Operation.SCORE: "score-",
    Operation.TOKENIZE: "tok-",
    Operation.DETOKENIZE: "tok-",
}
_PROMPT_FIELDS = {
    Operation.CHAT: "messages",
    Operation.COMPLETION: "prompt",
    Operation.RESPONSE: "input",
    Operation.EMBEDDING: "input",
    Operation.RERANK: "documents",
    Operation.SCORE: "text_2",
    Operation.TOKENIZE: "prompt",
    Operation.DETOKENIZE: "tokens",
}


def last_chunk(job: Job) -> bytes | None:
    """The chunk that ends every answer of a stream for want of tokens; None if there is none."""
    said: dict[str, object]
    match job.request.operation:
        case Operation.CHAT:
            kind, said = "chat.completion.chunk", {"delta": {}}
        case Operation.COMPLETION:
            kind, said = "text_completion", {"text": ""}
        case _:
            return None
    choices = [
        {"index": index, **said, "logprobs": None, "finish_reason": "length"}
        for index in range(job.request.answers)
    ]
    return json.dumps(
        {
            "id": job.completion_id,
            "object": kind,
            "created": job.created,
            "model": job.model.name,
            "choices": choices,
        },
        separators=(",", ":"),
    ).encode()
