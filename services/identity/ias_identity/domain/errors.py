"""The failures that identity adds to those of the chassis.

IasError
├── Unauthenticated
│   ├── BadLogin             BAD_LOGIN             unknown address or wrong password, alike
│   ├── InvalidInvitation    INVALID_INVITATION    unknown, used or expired
│   └── InvalidCredential    INVALID_CREDENTIAL    a key or token that proves nothing
├── PermissionDenied
│   ├── WrongCredentialKind  WRONG_CREDENTIAL_KIND a session where a key is asked for, or reverse
│   └── AddressNotAllowed    ADDRESS_NOT_ALLOWED   the key may not be used from there
├── InvalidField
│   └── WeakPassword         WEAK_PASSWORD         too short or too obvious
├── ResourceExhausted
│   └── LoginSlowed          LOGIN_SLOWED          too many failed logins
└── ModelNotFound            MODEL_NOT_FOUND       unknown, or not allowed: alike
"""

import math

from ias_runtime.errors import (
    IasError,
    InvalidField,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)


class BadLogin(Unauthenticated):
    """The address is unknown, the password wrong, or the account not active: alike on purpose."""

    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.", reason="BAD_LOGIN")


class InvalidInvitation(Unauthenticated):
    """The invitation is unknown, used or expired."""

    def __init__(self) -> None:
        super().__init__(
            "This invitation is unknown, used or expired; ask for a new one.",
            reason="INVALID_INVITATION",
        )


class InvalidCredential(Unauthenticated):
    """A key or token that proves nothing; the message says what to do, and never the secret."""


class WrongCredentialKind(PermissionDenied):
    """An API key where a session is asked for, or the reverse."""

    def __init__(self, message: str, *, expected: str) -> None:
        super().__init__(message, reason="WRONG_CREDENTIAL_KIND", metadata={"expected": expected})


class AddressNotAllowed(PermissionDenied):
    """The key may not be used from this address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"This API key may not be used from {address or 'an unknown address'}.",
            reason="ADDRESS_NOT_ALLOWED",
            metadata={"address": address},
        )


class WeakPassword(InvalidField):
    """The password is too short or too obvious. `rule` says which, never the password."""

    def __init__(self, rule: str) -> None:
        super().__init__("password", rule, reason="WEAK_PASSWORD")


class LoginSlowed(ResourceExhausted):
    """Too many failed logins for this account or from this address."""

    def __init__(self, wait_s: float) -> None:
        seconds = max(1, math.ceil(wait_s))
        super().__init__(
            f"Too many failed logins; try again in {seconds} s.",
            reason="LOGIN_SLOWED",
            metadata={"retry_after_s": str(seconds)},
            retry_after_s=seconds,
        )


class ModelNotFound(IasError):
    """The model is unknown, disabled, or not allowed for this caller: one and the same answer."""

    code = "NOT_FOUND"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model `{model}` does not exist or you do not have access to it.",
            reason="MODEL_NOT_FOUND",
            metadata={"model": model},
        )
