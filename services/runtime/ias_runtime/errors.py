"""What a handler or a rule may raise; `rpc` translates it once, at the edge.

IasError
├── InvalidField          INVALID_ARGUMENT      a field is missing, malformed or out of range
├── Unauthenticated       UNAUTHENTICATED       no credential, or a bad one
├── PermissionDenied      PERMISSION_DENIED     known, but may not
├── NotFound              NOT_FOUND             absent, or not for this caller (alike on purpose)
├── AlreadyExists         ALREADY_EXISTS        the name is taken
├── FailedPrecondition    FAILED_PRECONDITION   not in a state that permits this
├── ResourceExhausted     RESOURCE_EXHAUSTED    a budget or limit has no room
└── Unavailable           UNAVAILABLE           a dependency that must not be skipped is down

`reason` is a value of ias.errors.v1.ErrorReason without its prefix. Whatever a message
interpolates is in `metadata` too (AIP-193).
"""

from collections.abc import Mapping


class IasError(Exception):
    """A failure that the caller may see, whole."""

    code = "INTERNAL"
    """Name of the canonical gRPC status code."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        """Seconds after which asking again makes sense; sent as RetryInfo."""


class InvalidField(IasError):
    """A field is missing, malformed or out of range."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, rule: str, *, reason: str = "INVALID_FIELD") -> None:
        super().__init__(f"{field}: {rule}", reason=reason, metadata={"field": field, "rule": rule})
        self.field = field


class Unauthenticated(IasError):
    """No credential, or one that is malformed, unknown, expired or revoked."""

    code = "UNAUTHENTICATED"

    def __init__(
        self, message: str = "No valid credential.", *, reason: str = "INVALID_CREDENTIAL"
    ) -> None:
        super().__init__(message, reason=reason)


class PermissionDenied(IasError):
    """The caller is known, but may not do this."""

    code = "PERMISSION_DENIED"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "PERMISSION_DENIED",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)


class NotFound(IasError):
    """Absent, or in another organisation: both are answered alike, so nothing can be probed."""

    code = "NOT_FOUND"

    def __init__(self, resource: str, identifier: str, *, reason: str = "NOT_FOUND") -> None:
        super().__init__(
            f"No {resource.replace('_', ' ')} {identifier!r}.",
            reason=reason,
            metadata={"resource": resource, "id": identifier},
        )


class AlreadyExists(IasError):
    """A thing of that name exists."""

    code = "ALREADY_EXISTS"

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(
            f"The {resource.replace('_', ' ')} {name!r} exists already.",
            reason="ALREADY_EXISTS",
            metadata={"resource": resource, "name": name},
        )


class FailedPrecondition(IasError):
    """The thing is not in a state that permits this."""

    code = "FAILED_PRECONDITION"

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message, reason="FAILED_PRECONDITION", metadata=metadata)


class ResourceExhausted(IasError):
    """A budget or limit has no room."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(IasError):
    """A part that must not be skipped is down; nothing was changed."""

    code = "UNAVAILABLE"

    def __init__(
        self,
        dependency: str,
        *,
        message: str | None = None,
        reason: str = "DEPENDENCY_UNAVAILABLE",
        retry_after_s: float = 1.0,
    ) -> None:
        super().__init__(
            message or f"{dependency} is unavailable; try again shortly.",
            reason=reason,
            metadata={"dependency": dependency},
            retry_after_s=retry_after_s,
        )
