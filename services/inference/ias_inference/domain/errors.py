"""The failures of inference, beyond those that every service has.

IasError
├── ModelNotFound            NOT_FOUND           unknown, disabled or not allowed, alike
├── InvalidField
│   ├── InvalidRequest       INVALID_ARGUMENT    a field of an inference request is wrong
│   ├── Unsupported          INVALID_ARGUMENT    the model or its engine can't do that
│   ├── ModelMismatch        INVALID_ARGUMENT    the body's model is not the authorised one
│   └── ContextLengthExceeded INVALID_ARGUMENT   prompt and answer don't fit the model
├── EngineRefused            INVALID_ARGUMENT    the engine found fault with the request
├── EngineFailed             UNAVAILABLE         the engine is down, hangs or answers garbage
└── CutOff                   RESOURCE_EXHAUSTED  a budget ran out in mid-stream
"""

from ias_runtime.errors import IasError, InvalidField, NotFound, ResourceExhausted, Unavailable


class ModelNotFound(NotFound):
    """Unknown, disabled, or not allowed for this caller: one and the same answer."""

    def __init__(self, name: str) -> None:
        super().__init__("model", name, reason="MODEL_NOT_FOUND")
        self.message = f"The model {name!r} does not exist or you do not have access to it."
        self.metadata["model"] = name


class InvalidRequest(InvalidField):
    """A field of an inference request is wrong; `message` is a whole sentence for its sender."""

    def __init__(self, field: str, message: str, *, reason: str = "INVALID_FIELD") -> None:
        super().__init__(field, message, reason=reason)
        self.message = message


class Unsupported(InvalidRequest):
    """The model, or the engine that serves it, can't do what was asked."""

    def __init__(self, model: str, feature: str, field: str = "model") -> None:
        super().__init__(
            field, f"The model {model!r} does not support {feature}.", reason="UNSUPPORTED"
        )
        self.metadata.update(model=model, feature=feature)


class ModelMismatch(InvalidRequest):
    """The body's model is not the one that was authorised."""

    def __init__(self, model: str, authorized: str) -> None:
        told = (
            f"The request was authorised for the model {authorized!r}, but its body asks for"
            f" {model!r}. Name the model once, as a plain JSON string."
            if authorized
            else "No model was authorised for this request. Send the body as JSON with the header"
            " 'content-type: application/json' and a top-level string 'model'."
        )
        super().__init__("model", told, reason="MODEL_MISMATCH")
        self.metadata.update(model=model, authorized=authorized)


class ContextLengthExceeded(InvalidRequest):
    """Prompt and answer together don't fit the model's context."""

    def __init__(
        self, context_length: int, prompt_tokens: int, asked_tokens: int, field: str = "messages"
    ) -> None:
        total = prompt_tokens + asked_tokens
        super().__init__(
            field,
            f"This model's context length is {context_length} tokens, but you asked for {total}"
            f" ({prompt_tokens} in the {field}, {asked_tokens} in the answer)."
            f" Shorten the {field} or the answer.",
            reason="CONTEXT_LENGTH_EXCEEDED",
        )
        self.metadata.update(context_length=str(context_length), tokens=str(total))


class EngineRefused(IasError):
    """The engine found fault with the request; `status` is the HTTP status it gave (4xx)."""

    code = "INVALID_ARGUMENT"

    def __init__(self, model: str, status: int, message: str, field: str = "") -> None:
        super().__init__(
            f"The engine of model {model!r} refused the request: {message}",
            reason="ENGINE_REFUSED",
            metadata={"model": model} | ({"field": field} if field else {}),
        )
        self.status = status


class EngineFailed(Unavailable):
    """The engine is down, hangs, died or answered garbage. `cause` is for the log alone."""

    def __init__(self, model: str, what: str, cause: str = "") -> None:
        super().__init__(
            model, message=f"The engine of model {model!r} {what}.", reason="ENGINE_FAILED"
        )
        self.metadata = {"model": model}
        self.cause = cause


class CutOff(ResourceExhausted):
    """A budget ran out in mid-stream; what was sent so far is charged."""

    def __init__(self, metadata: dict[str, str]) -> None:
        scope = metadata.get("scope", "")
        until = f" It resets at {metadata['reset_time']}." if "reset_time" in metadata else ""
        super().__init__(
            f"The token budget{f' of the {scope}' if scope else ''} ran out during this answer."
            f"{until}",
            reason="INSUFFICIENT_QUOTA",
            metadata=metadata,
        )
