"""The effect log: every write that a simulator carried out, in order; the truth that tests count by."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One write that was carried out; a simulator derives its own, which names the record as its system does."""

    n: int
    """Position in the log, from 1."""
    time: datetime
    method: str
    """POST, PUT, PATCH or DELETE as it came in; another word for what a simulated user did."""
    fields: dict[str, object]
    """What was sent."""
    changed: tuple[str, ...] = ()
    """Names of the fields whose value changed by it."""
    request_correlation_id: str = ""
    """The X-Correlation-ID header of the request, "" if it had none."""
    user: str = ""


E = TypeVar("E", bound=Effect)


class EffectLog(Generic[E]):
    """Append-only list of effects, and a JSON Lines file of them if a path is given.

    The file is flushed after each effect, so that what was answered is in it even if the process is killed. Reading it
    back is up to the owner; a line that was cut off by a kill is dropped.
    """

    def __init__(self, kind: type[E], path: Path | None = None) -> None:
        self.effects: list[E] = []
        self._kind = kind
        self._path = path
        self._file: BinaryIO | None = None
        self._grown = asyncio.Event()

    @property
    def next_n(self) -> int:
        """The position that the next effect takes."""
        return len(self.effects) + 1

    def open(self) -> list[E]:
        """Open the file and return the effects of earlier runs, which stay in the log."""
        if self._path is None:
            return []
        stored = self._path.read_bytes() if self._path.exists() else b""
        complete = stored[: stored.rfind(b"\n") + 1]
        self.effects = [msgspec.json.decode(line, type=self._kind) for line in complete.splitlines()]
        self._file = self._path.open("ab")
        self._file.truncate(len(complete))
        return self.effects

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, *effects: E) -> None:
        """Add effects; several are written as one, so that a kill leaves all of them in the file or none."""
        self.effects.extend(effects)
        if self._file is not None:
            self._file.write(b"".join(msgspec.json.encode(effect) + b"\n" for effect in effects))
            self._file.flush()
        self._grown.set()
        self._grown = asyncio.Event()

    def clear(self) -> None:
        self.effects = []
        if self._file is not None:
            self._file.truncate(0)

    def select(self, wanted: Mapping[str, str | None], *, after_n: int = 0) -> list[E]:
        """The effects after position `after_n` that have every given value; None wants any.

        Raises ValueError for what is no field of an effect.
        """
        asked = {name: value for name, value in wanted.items() if value is not None}
        known = {field.name for field in msgspec.structs.fields(self._kind) if field.type is str}
        if unknown := asked.keys() - known:
            raise ValueError(f"effects are found by {', '.join(sorted(known))}, not by {', '.join(sorted(unknown))}")
        return [
            effect
            for effect in self.effects[after_n:]
            if all(getattr(effect, name) == value for name, value in asked.items())
        ]

    async def wait(self, count: int, wanted: Mapping[str, str | None], *, timeout_s: float) -> list[E]:
        """Return the matching effects as soon as there are `count` of them. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(found := self.select(wanted)) < count:
                await self._grown.wait()
        return found
