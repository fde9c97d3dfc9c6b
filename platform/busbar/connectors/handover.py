"""Deliveries that another runner makes: Apache Camel is handed what to do, and says later what became of it.

The worker claims such a delivery like any other, holds it by a lease of its own, publishes it, and makes the lease a
long one. It stays in flight, and what comes after it in its order waits, until `outcomes.py` hears of it or the lease
ends; when the process dies in between, that is soon.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from busbar.bus.broker import BrokerTrouble, Outgoing
from busbar.bus.topology import HANDOVER
from busbar.connectors.contract import Attempt, Connector, DeliveryError, NothingToTell, Permanent, Retryable
from busbar.connectors.http import failure_of
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.shared_breaker import SharedBreaker
from busbar.connectors.verdict import Admitted, Desk, Judge, attempt_of, unused
from busbar.db import DATABASE_TROUBLE, fetch
from busbar.db.group_write import GroupWriter
from busbar.events import ledger
from busbar.events.ledger import HANDING_OVER_S, HANDOVER_LEASE_S, Claimed, Outcome, WithRunner
from busbar.kit.crash import crash_point
from busbar.observability.metrics import GaugeFamily, Reading

log = structlog.get_logger()

CAMEL: Final = "camel"
UNDER_WAY_MAX: Final = 500
"""So many deliveries of one endpoint are with the other runner at a time; the others wait in the ledger."""
PREPARE_S: Final = 10.0
"""Longest time that a connector may take to work out what to hand over."""
PUBLISH_S: Final = 5.0

HANDED_OVER: Final = GaugeFamily(
    name="busbar_handed_over",
    help="Deliveries that another runner has and has not told the outcome of, by endpoint.",
    labels=("endpoint",),
)
HANDED_OVER_AGE: Final = GaugeFamily(
    name="busbar_handed_over_age_seconds",
    help="How long the oldest of these is under way, by endpoint.",
    labels=("endpoint",),
)

_OF_OTHER_RUNNERS = "select endpoint_id from core.endpoint where runner <> 'busbar' and active"


class Publisher(Protocol):
    """What is needed of the way to the broker; `busbar.bus.broker.Broker` is one."""

    connected: asyncio.Event

    async def publish(self, messages: Sequence[Outgoing], *, timeout_s: float = ...) -> list[Outgoing]: ...
    async def restore(self) -> None: ...


def handover_fault(connector: Connector, *, brokered: bool) -> str | None:
    """Why Camel cannot deliver for this connector, and what to do; None when it can."""
    if not brokered:
        return (
            "Camel gets its deliveries over RabbitMQ, and Busbar has none: set AMQP_URL and start Busbar again, or let "
            "the runner be busbar."
        )
    if connector.compose is None:
        return (
            f"The connector {connector.kind} cannot say what it would send, so only Busbar itself can deliver for it: "
            "let the runner be busbar."
        )
    return None


class Handover:
    """What this process knows of deliveries that are with another runner, and its way to it."""

    def __init__(self) -> None:
        self.publisher: Publisher | None = None
        """None in a process that does not work on deliveries, or without a broker."""
        self._under_way: Counter[str] = Counter()
        self._changes = 0
        self._holding: GroupWriter[Claimed, bool] = GroupWriter(_hold, name="handovers", flushers=1, pool="background")
        self._keeping: GroupWriter[Claimed, bool] = GroupWriter(
            _keep, name="handed-over", flushers=1, pool="background"
        )

    @property
    def reaches_broker(self) -> bool:
        """Whether something can be handed over now."""
        return self.publisher is not None and self.publisher.connected.is_set()

    def room(self, endpoint_id: str) -> int:
        """How many more deliveries of an endpoint may be handed over."""
        return max(0, UNDER_WAY_MAX - self._under_way[endpoint_id])

    async def refresh(self) -> None:
        """Count anew what is under way: other processes hand over and hear outcomes too."""
        before = self._changes
        counted = await ledger.with_runners()
        # What changed here meanwhile would be lost; where nothing moves because all is full, nothing changes.
        if self._changes == before:
            self._under_way = Counter({name: each.count for name, each in counted.items()})

    async def hold(self, held: Claimed) -> bool:
        """Hold it for the other runner until it is published; False if the attempt was taken over meanwhile."""
        is_ours = await self._holding.submit(held)
        self._under_way[held.endpoint_id or ""] += is_ours
        self._changes += 1
        return is_ours

    async def keep(self, held: Claimed) -> None:
        """It is published: hold it for as long as the other runner may take. The outcome may have come already."""
        try:
            await self._keeping.submit(held)
        except DATABASE_TROUBLE as error:
            # The short lease stands; if it ends before the outcome comes, the runner is told again, and looks.
            log.warning("handover_not_prolonged", delivery_id=held.delivery_id, error=str(error) or repr(error))

    def ended(self, endpoint_id: str) -> None:
        """One has its outcome, or came back unsent."""
        self._under_way[endpoint_id] = max(0, self._under_way[endpoint_id] - 1)
        self._changes += 1

    async def publish(self, message: Outgoing) -> None:
        """Give it to the broker, which has it safely then.

        Raises:
            BrokerTrouble: nobody knows whether it has, or there is no queue for it.
        """
        if self.publisher is None:
            raise BrokerTrouble("This process has no connection to the broker.")
        if not await self.publisher.publish([message], timeout_s=PUBLISH_S):
            return
        # The queue that should be there is not: somebody deleted it.
        await self.publisher.restore()
        if await self.publisher.publish([message], timeout_s=PUBLISH_S):
            raise BrokerTrouble(f"No queue takes {message.routing_key}.")


class HandoverLane:
    """Hands over the deliveries of all routes that lead to one endpoint."""

    def __init__(self, endpoint_id: str, *, desk: Desk, breaker: SharedBreaker, handover: Handover) -> None:
        self.judge = Judge(endpoint_id, desk=desk, breaker=breaker)
        self._endpoint_id = endpoint_id
        self._desk = desk
        self._handover = handover

    def free(self, running: int) -> int:
        """How many may be handed over: none while the endpoint is paused or off, or the broker cannot be reached."""
        if not self._handover.reaches_broker or self._desk.at_work(self._endpoint_id, runner=CAMEL) is None:
            return 0
        admission = self.judge.breaker.forecast()
        if not admission.allowed:
            return 0
        room = max(0, self._handover.room(self._endpoint_id) - running)
        return min(room, 1) if admission.probe else room

    async def attempt(self, held: Claimed) -> Outcome:
        """Work out what is to be done, and hand it over; `in_flight` when that is done. Never raises."""
        try:
            admitted = await self.judge.admit(held, runner=CAMEL)
            return admitted if isinstance(admitted, Outcome) else await self._hand_over(held, admitted)
        except DATABASE_TROUBLE as error:
            log.warning("attempt_not_recorded", endpoint=self._endpoint_id, error=str(error) or repr(error))
            return self.judge.again(held, "The database could not be reached during the attempt.", charge=False)
        except Exception as error:
            log.exception("handover_failed", endpoint=self._endpoint_id)
            return self.judge.broken(held, error)

    async def _hand_over(self, held: Claimed, admitted: Admitted) -> Outcome:
        endpoint, admission = admitted.endpoint, admitted.admission
        attempt = await attempt_of(held, admitted.standing)
        composed = await _compose(endpoint, admitted.connector, attempt)
        if isinstance(composed, DeliveryError):
            return await self.judge.failed(held, composed, admission, endpoint=endpoint)
        message = _message(held, endpoint, attempt, composed)
        if not await self._handover.hold(held):
            return unused("Taken over by another worker.")
        crash_point("handover_before_broker")
        try:
            await self._handover.publish(message)
        except BrokerTrouble as trouble:
            self._handover.ended(self._endpoint_id)
            if admission.probe:
                # Nothing was asked of the remote, so another delivery may be the probe.
                await self.judge.breaker.failed(NothingToTell("not handed over"), generation=admission.generation)
            return self.judge.again(held, f"It could not be handed over to Camel. {trouble}", charge=False)
        crash_point("handover_after_broker")
        await self._handover.keep(held)
        return Outcome(state="in_flight", detail="handed over to Camel", charge=False)


async def _hold(held: Sequence[Claimed]) -> Sequence[bool]:
    ours = await ledger.hand_over(held, lease_s=HANDING_OVER_S)
    return [each.delivery_id in ours for each in held]


async def _keep(held: Sequence[Claimed]) -> Sequence[bool]:
    still = await ledger.hand_over(held, lease_s=HANDOVER_LEASE_S)
    return [each.delivery_id in still for each in held]


async def _compose(endpoint: OpenEndpoint, connector: Connector, attempt: Attempt) -> bytes | DeliveryError:
    """What is to be done at the remote, as JSON, or why nothing can be handed over."""
    assert connector.compose is not None, "an endpoint whose connector cannot compose is not at work for Camel"
    try:
        async with endpoint.in_use() as seen, asyncio.timeout(PREPARE_S):
            if connector.prepare is not None:
                attempt = msgspec.structs.replace(attempt, known=await connector.prepare(seen, attempt))
            return msgspec.json.encode(connector.compose(seen.settings, attempt))
    except DATABASE_TROUBLE:
        raise
    except TimeoutError:
        return Retryable(f"The connector did not work out within {PREPARE_S:g} s what to hand over.")
    except Exception as error:  # noqa: BLE001 - a connector is a stranger's code
        try:
            return failure_of(error)
        except TypeError:
            cause = endpoint.secrets.redacted("".join(traceback.format_exception(error)))
            log.error("connector_failed", endpoint=endpoint.endpoint_id, connector=connector.kind, cause=cause)
            return Permanent(f"The connector failed: {type(error).__name__}: {error}")


def _message(held: Claimed, endpoint: OpenEndpoint, attempt: Attempt, composed: bytes) -> Outgoing:
    body: Mapping[str, Any] = {
        "delivery_id": attempt.delivery_id,
        "attempt": attempt.number,
        "first": attempt.first,
        "endpoint": {"endpoint_id": endpoint.endpoint_id, "kind": endpoint.kind, "name": endpoint.name},
        "event": attempt.event,
        "document": attempt.document,
        "remote_id": attempt.remote_id,
        "composed": msgspec.Raw(composed),
    }
    headers = {"busbar-endpoint": endpoint.endpoint_id, "busbar-kind": endpoint.kind}
    if held.event.traceparent is not None:
        headers["traceparent"] = held.event.traceparent
    return Outgoing(
        exchange=HANDOVER,
        routing_key=f"{CAMEL}.{endpoint.kind}.{endpoint.endpoint_id}",
        body=msgspec.json.encode(body),
        message_id=f"{attempt.delivery_id}.{attempt.number}",
        correlation_id=attempt.correlation_id,
        headers=headers,
    )


async def handover_readings() -> Iterable[Reading]:
    """How many deliveries are with another runner, and since when, for the metrics.

    An endpoint with another runner is shown with 0 when that owes nothing: what is missing raises no alarm.
    """
    idle = {row["endpoint_id"]: WithRunner(count=0, oldest_s=0.0) for row in await fetch(_OF_OTHER_RUNNERS)}
    return _readings(idle | await ledger.with_runners())


def _readings(found: Mapping[str, WithRunner]) -> Iterable[Reading]:
    for endpoint_id, each in found.items():
        labels = {"endpoint": endpoint_id}
        yield Reading(family=HANDED_OVER.name, value=each.count, labels=labels)
        yield Reading(family=HANDED_OVER_AGE.name, value=each.oldest_s, labels=labels)
