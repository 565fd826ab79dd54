"""Structured logs: one JSON object a line on standard output."""

import logging
import re
import sys
from typing import Any

import structlog

_SECRET_KEYS = re.compile(r"password|secret|token|authorization|credential|private_key", re.I)
_API_KEY = re.compile(r"ias_[0-9A-Za-z]{20,}")


def configure(service: str, level: str) -> None:
    """Sets up structlog and the standard logging of libraries alike."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(stream=sys.stdout, level=max(number, logging.WARNING), format="%(message)s")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def redact(_: Any, __: str, event: Any) -> Any:
    """The last line of defence: nothing that looks like a secret is written."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key):
            event[key] = "********"
        elif isinstance(value, str):
            event[key] = _API_KEY.sub("ias_********", value)
    return event
