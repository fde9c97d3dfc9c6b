"""Identifiers."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then randomness; it sorts roughly by time."""
    value = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    high = (milliseconds << 16) | 0x7000 | (value >> 68)
    low = (0b10 << 62) | (value & ((1 << 62) - 1))
    return UUID(int=(high << 64) | low)
