"""The effect log: every write that the simulator carried out, in order; the truth that tests count by."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One write that was carried out."""

    n: int
    """Position in the log, from 1."""
    time: datetime
    method: str
    """POST, PUT, PATCH or DELETE as it came in; CHANGE for what a simulated ServiceNow user did."""
    table: str
    sys_id: str
    number: str
    correlation_id: str
    """The record's field, after the write."""
    fields: dict[str, object]
    """What was sent."""
    changed: tuple[str, ...]
    """Names of the fields whose value changed by it."""
    request_correlation_id: str
    """The X-Correlation-ID header of the request, "" if it had none."""
    user: str


class EffectLog:
    """Append-only list of effects, and a JSON Lines file of them if a path is given.

    The file is flushed after each effect, so that what was answered is in it even if the process is killed. Reading it
    back is up to the owner; a line that was cut off by a kill is dropped.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.effects: list[Effect] = []
        self._path = path
        self._file: BinaryIO | None = None
        self._grown = asyncio.Event()

    def open(self) -> list[Effect]:
        """Open the file and return the effects of earlier runs, which stay in the log."""
        if self._path is None:
            return []
        stored = self._path.read_bytes() if self._path.exists() else b""
        complete = stored[: stored.rfind(b"\n") + 1]
        self.effects = [msgspec.json.decode(line, type=Effect) for line in complete.splitlines()]
        self._file = self._path.open("ab")
        self._file.truncate(len(complete))
        return self.effects

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, effect: Effect) -> None:
        self.effects.append(effect)
        if self._file is not None:
            self._file.write(msgspec.json.encode(effect) + b"\n")
            self._file.flush()
        self._grown.set()
        self._grown = asyncio.Event()

    def clear(self) -> None:
        self.effects = []
        if self._file is not None:
            self._file.truncate(0)

    def select(
        self,
        *,
        method: str | None = None,
        table: str | None = None,
        sys_id: str | None = None,
        correlation_id: str | None = None,
        request_correlation_id: str | None = None,
        after_n: int = 0,
    ) -> list[Effect]:
        """The effects after position `after_n` that have every given value."""
        asked = {
            "method": method,
            "table": table,
            "sys_id": sys_id,
            "correlation_id": correlation_id,
            "request_correlation_id": request_correlation_id,
        }
        wanted = {name: value for name, value in asked.items() if value is not None}
        return [
            effect
            for effect in self.effects[after_n:]
            if all(getattr(effect, name) == value for name, value in wanted.items())
        ]

    async def wait(
        self, count: int, *, timeout_s: float, method: str | None, correlation_id: str | None
    ) -> list[Effect]:
        """Return the matching effects as soon as there are `count` of them. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(found := self.select(method=method, correlation_id=correlation_id)) < count:
                await self._grown.wait()
        return found
