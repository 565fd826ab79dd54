"""UUID version 7 (RFC 9562): unique, and in the order of time."""

import os
import time
import uuid


def new() -> uuid.UUID:
    """A new one, of this millisecond."""
    head = time.time_ns() // 1_000_000 << 80
    tail = int.from_bytes(os.urandom(10), "big")
    value = head | tail
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
