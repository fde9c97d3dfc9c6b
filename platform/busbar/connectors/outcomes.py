"""What another runner says became of a delivery: read from the broker's queue of outcomes, written to the ledger.

An outcome belongs to one attempt. When that was given back meanwhile, because the outcome came too late or twice, the
outcome is stale: whoever has the delivery now tells how it ends.
"""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Protocol

import msgspec
import structlog

from busbar.bus.attempts import count_attempt
from busbar.bus.consumers import Handle, Incoming, Refused
from busbar.bus.topology import OUTCOMES, STATIC_QUEUES, Queue
from busbar.connectors.breaker import Admission, BreakerState
from busbar.connectors.contract import (
    AuthExpired,
    DeliveryError,
    NothingToTell,
    Permanent,
    RateLimited,
    Receipt,
    Retryable,
)
from busbar.connectors.handover import CAMEL, Handover
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.verdict import Judge, unused
from busbar.db import DATABASE_TROUBLE
from busbar.db.group_write import GroupWriter
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger
from busbar.events.ledger import HANDOVER_LEASE_S, Claimed, Outcome
from busbar.kit.backoff import delay_s
from busbar.kit.clock import Clock
from busbar.observability.correlation import correlated

log = structlog.get_logger()

PREFETCH: Final = 64
"""Outcomes that are worked on side by side; what they write shares statements."""
QUEUE: Final[Queue] = next(queue for queue in STATIC_QUEUES if queue.name == OUTCOMES)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
WAIT_S_MAX: Final = 86_400.0
"""Longest wait that a remote may ask for."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome as a runner tells it (docs/how-to/run-camel.md)."""

    delivery_id: Annotated[str, msgspec.Meta(pattern=r"^\d{1,18}$")]
    attempt: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    state: Literal["delivered", "retrying", "dead", "skipped"]
    remote_id: str | None = None
    marker: str | None = None
    detail: str | None = None
    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None
    charge: bool = True
    """False for a quota that is used up, or credentials that are refused: the endpoint pauses, not the message."""
    started_at: Moment
    finished_at: Moment
    tries: Annotated[int, msgspec.Meta(ge=0)] = 1
    """How often the runner asked the remote during this one attempt."""

    def __post_init__(self) -> None:
        if self.state == "delivered" and not self.remote_id:
            raise ValueError("An outcome of delivered needs the remote_id.")


class Desk(Protocol):
    """What the reader asks of the desk of endpoints."""

    clock: Clock
    handover: Handover

    def get(self, endpoint_id: str) -> OpenEndpoint | None: ...
    def judge(self, endpoint_id: str) -> Judge: ...
    async def refresh(self) -> None: ...


class Consumers(Protocol):
    """Where consumers are registered; `busbar.bus.broker.Broker` is one."""

    def consume(self, queue: Queue, handle: Handle, *, prefetch: int) -> None: ...


class OutcomeReader:
    """Reads outcomes for the endpoints of this process's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asking: GroupWriter[tuple[int, int], Claimed | None] = GroupWriter(
            _ask, name="handed-over", flushers=1, pool="background"
        )
        self._settling: GroupWriter[tuple[Claimed, Outcome], bool] = GroupWriter(
            _settle, name="told-outcomes", flushers=1, pool="background"
        )

    def consume_from(self, broker: Consumers) -> None:
        """Take every outcome from now on."""
        broker.consume(QUEUE, self.take, prefetch=PREFETCH)

    async def take(self, incoming: Incoming) -> None:
        """Write one outcome to the ledger; returns when it is there, or when it is stale.

        Raises:
            Refused: it cannot be read.
        """
        told = _read(incoming)
        began = self._desk.clock()
        for attempt in itertools.count(1):
            try:
                await self._take(told)
            except DATABASE_TROUBLE as error:
                if self._desk.clock() - began > timedelta(seconds=HANDOVER_LEASE_S):
                    raise  # the lease has ended, and with it the attempt
                log.warning("outcome_not_written_yet", delivery_id=told.delivery_id, error=str(error) or repr(error))
                await asyncio.sleep(delay_s(attempt, first_s=0.1, max_s=5.0))
            else:
                return

    async def _take(self, told: Told) -> None:
        held = await self._asking.submit((int(told.delivery_id), told.attempt))
        if held is None or held.endpoint_id is None:
            log.info("outcome_stale", delivery_id=told.delivery_id, attempt=told.attempt, state=told.state)
            return
        with correlated(held.event.correlation_id, traceparent=held.event.traceparent):
            outcome = await self._judged(held, held.endpoint_id, told)
            is_ours = await self._settling.submit((held, outcome))
            state = outcome.state if is_ours else "taken over"
            count_attempt(held, state, now=self._desk.clock())
            log.info(
                "delivery",
                delivery_id=held.delivery_id,
                subscription=held.subscription,
                event_id=str(held.event.event_id),
                event_type=held.event.event_type,
                attempt=held.attempt,
                runner=outcome.runner,
                state=state,
                detail=outcome.detail,
                remote_id=outcome.remote_id,
            )
        self._desk.handover.ended(held.endpoint_id)
        # What waited behind it may go now.
        poke(Channel.DELIVERIES)

    async def _judged(self, held: Claimed, endpoint_id: str, told: Told) -> Outcome:
        judge = self._desk.judge(endpoint_id)
        standing = await judge.standing(held)
        admission = _admission(judge.breaker.state)
        endpoint = self._desk.get(endpoint_id)
        if endpoint is None:
            await self._desk.refresh()
            endpoint = self._desk.get(endpoint_id)
        if endpoint is None:
            return unused(f"There is no endpoint {endpoint_id}.")
        result = _meaning(told, now=self._desk.clock())
        if isinstance(result, Receipt):
            outcome = await judge.delivered(held, result, standing, admission, endpoint=endpoint)
        else:
            outcome = await judge.failed(held, result, admission, endpoint=endpoint)
        return msgspec.structs.replace(outcome, runner=CAMEL, started_at=told.started_at, finished_at=told.finished_at)


def _read(incoming: Incoming) -> Told:
    try:
        return msgspec.json.decode(incoming.body, type=Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"It is no outcome of a delivery: {error}") from error


def _meaning(told: Told, *, now: datetime) -> Receipt | DeliveryError:
    """What a runner tells, in the words of the connectors' contract."""
    detail = told.detail or f"Camel says {told.state}, and no reason."
    if told.tries > 1:
        detail = f"{detail} Camel asked {told.tries} times."
    if told.state == "delivered":
        assert told.remote_id is not None, "an outcome without it is not read"
        return Receipt(remote_id=told.remote_id, marker=told.marker or None, detail=detail if told.detail else None)
    if told.state == "dead":
        return Permanent(detail)
    if told.state == "skipped":
        return NothingToTell(detail)
    after_s = None if told.retry_after_s is None else min(told.retry_after_s, WAIT_S_MAX)
    if told.charge:
        return Retryable(detail, after_s=after_s, uncertain=True)
    if after_s is not None:
        return RateLimited(detail, until=now + timedelta(seconds=after_s))
    return AuthExpired(detail)


def _admission(state: BreakerState) -> Admission:
    """How an attempt whose outcome comes now was let in, as far as one can know.

    While the breaker is open it was before that, so its outcome says nothing new; while half-open it is the probe.
    """
    generation = state.generation - 1 if state.phase == "open" else state.generation
    return Admission(state=state, allowed=True, probe=state.phase == "half_open", generation=generation)


async def _ask(attempts: Sequence[tuple[int, int]]) -> Sequence[Claimed | None]:
    found = await ledger.handed_over(attempts)
    # The same delivery may be asked for twice at once, for different attempts: one of them is stale.
    held = ((found.get(delivery_id), attempt) for delivery_id, attempt in attempts)
    return [each if each is not None and each.attempt == attempt else None for each, attempt in held]


async def _settle(outcomes: Sequence[tuple[Claimed, Outcome]]) -> Sequence[bool]:
    # One that came twice at once has one row in the ledger, and one try in its history.
    once = {held.delivery_id: (held, outcome) for held, outcome in reversed(outcomes)}
    settled = await ledger.settle(list(once.values()))
    return [once[held.delivery_id][1] is outcome and held.delivery_id in settled for held, outcome in outcomes]
