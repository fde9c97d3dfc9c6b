"""The correlation id and trace context of the work at hand, carried by context variables (SPEC R6.3)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from busbar.kit.ids import uuid7

CORRELATION_ID_CHARACTERS_MAX: Final = 128

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._:@/+=~-]{1,128}")
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)

correlation_id_var: ContextVar[str | None] = ContextVar("busbar_correlation_id", default=None)
traceparent_var: ContextVar[str | None] = ContextVar("busbar_traceparent", default=None)


def correlation_id() -> str | None:
    """The id of the request, event or job that is being worked on; None outside of any."""
    return correlation_id_var.get()


def traceparent() -> str | None:
    """The W3C trace context of the work at hand, or None."""
    return traceparent_var.get()


@contextmanager
def correlated(correlation_id: str, *, traceparent: str | None = None) -> Iterator[None]:
    """Give everything inside the block, its log lines too, this correlation id and trace context."""
    id_token = correlation_id_var.set(correlation_id)
    trace_token = traceparent_var.set(traceparent)
    try:
        yield
    finally:
        traceparent_var.reset(trace_token)
        correlation_id_var.reset(id_token)


def new_correlation_id() -> str:
    """A fresh id: a UUID of version 7."""
    return str(uuid7())


def accepted_correlation_id(header: bytes | None) -> str | None:
    """The caller's id if it is 1 to 128 harmless ASCII characters, else None.

    What a caller sends ends up in logs, headers and remote systems, so nothing else is passed on.
    """
    if header is None:
        return None
    text = header.decode("latin-1")
    return text if _ACCEPTED.fullmatch(text) else None


def new_traceparent() -> str:
    """A fresh, sampled W3C `traceparent` (version 00)."""
    random = os.urandom(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"


def accepted_traceparent(header: bytes | None) -> str | None:
    """The caller's `traceparent` if it is valid by W3C Trace Context level 1, section 3.2, else None.

    Of a version after 00 the first four fields are read, as the recommendation asks.
    """
    if header is None:
        return None
    match = _TRACEPARENT.fullmatch(header.decode("latin-1"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if trace_id == "0" * 32 or parent_id == "0" * 16:
        return None
    return f"00-{trace_id}-{parent_id}-{flags}"
