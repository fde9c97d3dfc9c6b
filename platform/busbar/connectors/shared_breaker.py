"""The circuit breaker of an endpoint as all processes share it: a row that is changed under its lock, and a copy of it.

While the breaker is closed and nothing fails, the copy is all that is needed; every other step reads the row, applies
one pure function of `breaker.py`, and writes it back, so that of several processes exactly one makes the probe.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from busbar.connectors import breaker
from busbar.connectors.breaker import Admission, BreakerPolicy, BreakerState
from busbar.connectors.contract import DeliveryError
from busbar.db import execute, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.kit.clock import Clock

log = structlog.get_logger()

POLICY: Final = BreakerPolicy(probe_s_max=60.0)
"""A probe is lost when the lease of its delivery is (`ledger_statements.LEASE_S`)."""

_LOCK = "select breaker, version from core.endpoint where endpoint_id = $1 for update"
_STORE = "update core.endpoint set breaker = $2::jsonb where endpoint_id = $1"
_DUE_NOW = """
update core.delivery set next_attempt_at = now()
where endpoint_id = $1 and state = 'retrying' and next_attempt_at > now()
"""


class SharedBreaker:
    """One endpoint's breaker, seen from one process."""

    def __init__(self, endpoint_id: str, *, clock: Clock, policy: BreakerPolicy = POLICY) -> None:
        self._endpoint_id = endpoint_id
        self._clock = clock
        self._policy = policy
        self.state = BreakerState()
        """The copy; behind the row by moments."""
        self.version = 0
        """The endpoint's version that the copy belongs to: who is let in must not use settings from before it."""

    def learn(self, stored: str | None, *, version: int) -> bool:
        """Take over what a query read from the row; True if the breaker has closed by that."""
        state = decode_breaker(stored)
        if state.generation < self.state.generation:
            return False  # read before a change that this process knows of already
        closed = state.phase == "closed" and self.state.phase != "closed"
        self.state, self.version = state, version
        return closed

    def forecast(self) -> Admission:
        """What an attempt would be told now, by the copy."""
        return breaker.admit(self.state, now=self._clock(), policy=self._policy)

    async def enter(self) -> Admission:
        """Let an attempt pass, make it the one probe, or refuse it."""
        admission = self.forecast()
        if self.state.phase == "closed":
            return admission
        decided: list[Admission] = []

        def admit(state: BreakerState) -> BreakerState:
            decided.append(breaker.admit(state, now=self._clock(), policy=self._policy))
            return decided[-1].state

        await self._change(admit)
        return decided[-1]

    async def succeeded(self, *, generation: int) -> None:
        """Tell that an attempt reached a remote that works; writes nothing when that is no news."""
        if breaker.succeeded(self.state, generation=generation) != self.state:
            await self._change(lambda state: breaker.succeeded(state, generation=generation))

    async def failed(self, error: DeliveryError, *, generation: int) -> BreakerState:
        """Tell that an attempt failed; returns the state after it."""
        now = self._clock()
        return await self._change(
            lambda state: breaker.failed(state, error, generation=generation, now=now, policy=self._policy)
        )

    async def _change(self, step: Callable[[BreakerState], BreakerState]) -> BreakerState:
        self.state, self.version = await change_breaker(self._endpoint_id, step)
        return self.state


async def change_breaker(endpoint_id: str, step: Callable[[BreakerState], BreakerState]) -> tuple[BreakerState, int]:
    """Replace the stored state by `step` of it, under the row's lock; other processes hear of a new phase.

    Returns the new state, and the endpoint's version that it belongs to (0 when there is no such endpoint).

    When the breaker closes, everything that waited for another attempt is due at once: the backlog drains in the order
    of the events, and not in that of the waits that the outage left behind.
    """
    async with transaction():
        row = await fetchrow(_LOCK, endpoint_id)
        before = decode_breaker(None if row is None else row["breaker"])
        after = step(before)
        version = 0 if row is None else int(row["version"])
        if row is None or after == before:
            return after, version
        await execute(_STORE, endpoint_id, msgspec.json.encode(after).decode())
        if after.generation != before.generation:
            if after.phase == "closed":
                await execute(_DUE_NOW, endpoint_id)
            on_commit(_tell)
    if after.phase != before.phase:
        until = None if after.until is None else after.until.isoformat()
        log.info("breaker", endpoint=endpoint_id, phase=after.phase, reason=after.reason, until=until)
    return after, version


def decode_breaker(stored: str | None) -> BreakerState:
    """The state in a row of core.endpoint; a new one when none is stored."""
    return BreakerState() if stored is None else msgspec.json.decode(stored, type=BreakerState)


def _tell() -> None:
    poke(Channel.CONFIG, Channel.DELIVERIES)
