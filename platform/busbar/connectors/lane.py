"""The lane of an endpoint: one attempt to deliver one event, and what its end means for the delivery and the endpoint.

the remote has it            delivered; its id is remembered first, so that a crash in between loses nothing
Retryable, breaker closed    tried again later, charged; dead once the route's limit is used up
Retryable, as the probe      tried again later, uncharged, and later than the others: the next probe is another one
Permanent                    dead: it would be refused again
NothingToTell                skipped, with the reason: the remote was not asked
RateLimited, AuthExpired     uncharged; the endpoint pauses, not the message
"""

import asyncio
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import msgspec
import structlog

from busbar.connectors.breaker import Admission
from busbar.connectors.contract import (
    Attempt,
    AuthExpired,
    Connector,
    DeliveryClass,
    DeliveryError,
    NothingToTell,
    Permanent,
    RateLimited,
    Receipt,
    Retryable,
)
from busbar.connectors.foreign_text import fit
from busbar.connectors.http import RETRY_AFTER_S_MAX, failure_of
from busbar.connectors.open_endpoint import CONNECTIONS_MAX, OpenEndpoint
from busbar.connectors.references import Reference, References, Standing
from busbar.connectors.shared_breaker import SharedBreaker
from busbar.db import DATABASE_TROUBLE, fetchval
from busbar.events.envelope import as_dict
from busbar.events.ledger import Claimed, Outcome
from busbar.kit.backoff import delay_s, step_s
from busbar.kit.clock import Clock
from busbar.kit.crash import crash_point

log = structlog.get_logger()

DELIVER_S: Final = 25.0
"""Longest time of one call of a connector; with the wait for a turn it stays below `ledger.LEASE_S`."""
TURN_S: Final = 20.0
"""Longest wait for a turn, when several routes lead to the same endpoint."""
RETRY_S_FIRST: Final = 1.0
RETRY_S_MAX: Final = 300.0
AFTER_PROBE_S: Final = 3.0
"""A failed probe comes so much later than the next one may start; longer than a worker's sleep between two looks."""
ATTEMPTS_MAX_DEFAULT: Final = 12
DETAIL_CHARACTERS_MAX: Final = 500
REMOTE_ID_CHARACTERS_MAX: Final = 255

_UNUSED = "select count(*) from core.delivery_attempt where delivery_id = $1 and attempt < $2 and outcome = 'pending'"
_ATTEMPTS_MAX = "select attempts_max from core.route where route_id = $1"


class Desk(Protocol):
    """What a lane asks of the desk that it belongs to."""

    references: References
    clock: Clock

    def get(self, endpoint_id: str) -> OpenEndpoint | None: ...
    def at_work(self, endpoint_id: str) -> OpenEndpoint | None: ...
    async def refresh(self) -> None: ...


class EndpointLane:
    """Works on the deliveries of all routes that lead to one endpoint."""

    def __init__(self, endpoint_id: str, *, desk: Desk, breaker: SharedBreaker) -> None:
        self.breaker = breaker
        self._endpoint_id = endpoint_id
        self._desk = desk
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._running = 0

    def free(self, running: int) -> int:
        """How many attempts may start: none while the endpoint is paused or off, one when a probe is due."""
        if self._desk.at_work(self._endpoint_id) is None:
            return 0
        admission = self.breaker.forecast()
        if not admission.allowed:
            return 0
        room = max(0, CONNECTIONS_MAX - max(running, self._running))
        return min(room, 1) if admission.probe else room

    async def attempt(self, held: Claimed) -> Outcome:
        """Try once, within `TURN_S + DELIVER_S` seconds and the time of a few statements; never raises."""
        self._running += 1
        try:
            try:
                async with asyncio.timeout(TURN_S):
                    await self._turns.acquire()
            except TimeoutError:
                return _unused("The endpoint's other attempts took too long.")
            try:
                return await self._attempt(held)
            finally:
                self._turns.release()
        except DATABASE_TROUBLE as error:
            # Nothing is known to be wrong with the remote or the message, so neither pays for it.
            log.warning("attempt_not_recorded", endpoint=self._endpoint_id, error=str(error) or repr(error))
            return self._again(held, "The database could not be reached during the attempt.", charge=False)
        except Exception as error:
            log.exception("attempt_failed", endpoint=self._endpoint_id)
            if held.charged + 1 >= ATTEMPTS_MAX_DEFAULT:
                return Outcome(state="dead", detail=f"Busbar failed at it: {type(error).__name__}.")
            return self._again(held, f"Busbar failed at it: {type(error).__name__}.", charge=True)
        finally:
            self._running -= 1

    async def _attempt(self, held: Claimed) -> Outcome:
        standing = await self._desk.references.standing(self._endpoint_id, held.event.subject)
        if standing.version is not None:
            self.breaker.learn(standing.breaker, version=standing.version)
        admission = await self.breaker.enter()
        if not admission.allowed:
            return _unused("The endpoint is paused.")
        # Only now: new settings reset the breaker, and whoever it lets in afterwards must not try the old ones.
        known = self._desk.get(self._endpoint_id)
        if known is None or known.version < self.breaker.version:
            await self._desk.refresh()
        endpoint = self._desk.at_work(self._endpoint_id)
        if endpoint is None or endpoint.connector is None:
            return _unused("The endpoint is switched off, or its plugin does not work.")
        attempt = await _attempt_of(held, standing)
        result = await _deliver(endpoint, endpoint.connector, attempt)
        if isinstance(result, DeliveryError):
            return await self._failed(held, result, admission, endpoint=endpoint)
        return await self._delivered(held, result, standing, admission, endpoint=endpoint, first=attempt.first)

    async def _delivered(
        self,
        held: Claimed,
        receipt: Receipt,
        standing: Standing,
        admission: Admission,
        *,
        endpoint: OpenEndpoint,
        first: bool,
    ) -> Outcome:
        remote_id = fit(receipt.remote_id, characters_max=REMOTE_ID_CHARACTERS_MAX)
        # Before the ledger: after a crash in between, the next attempt finds the record, and writes the same again.
        if (remote_id, receipt.marker or standing.marker) != (standing.remote_id, standing.marker):
            await self._desk.references.store(
                Reference(
                    endpoint_id=self._endpoint_id,
                    subject=held.event.subject,
                    remote_id=remote_id,
                    marker=None
                    if receipt.marker is None
                    else fit(receipt.marker, characters_max=REMOTE_ID_CHARACTERS_MAX),
                )
            )
        await self.breaker.succeeded(generation=admission.generation)
        detail = None if receipt.detail is None else _shown(endpoint, receipt.detail)
        assert endpoint.connector is not None
        if endpoint.connector.delivery_class is DeliveryClass.C and not first and not receipt.once:
            # The flag of class C: somebody has to look at the remote, for we cannot.
            warning = "Possible duplicate: an earlier attempt ended without an answer."
            detail = warning if detail is None else f"{warning} {detail}"
        elif receipt.duplicate:
            detail = detail or "The remote had it already, from an earlier attempt."
        return Outcome(state="delivered", detail=detail, remote_id=remote_id)

    async def _failed(
        self, held: Claimed, failure: DeliveryError, admission: Admission, *, endpoint: OpenEndpoint
    ) -> Outcome:
        detail = _shown(endpoint, failure.detail)
        after = await self.breaker.failed(failure, generation=admission.generation)
        if isinstance(failure, NothingToTell):
            return Outcome(state="skipped", detail=detail, charge=False)
        if isinstance(failure, Permanent):
            return Outcome(state="dead", detail=detail)
        if isinstance(failure, RateLimited | AuthExpired):
            # Its place in the order stays: it is due when the endpoint is.
            return Outcome(state="retrying", detail=detail, charge=False)
        after_s = failure.after_s if isinstance(failure, Retryable) and failure.after_s is not None else 0.0
        if not admission.probe:
            if held.charged + 1 >= await _attempts_max(held):
                return Outcome(state="dead", detail=detail)
            return self._again(held, detail, charge=True, after_s=after_s, waits_s=endpoint.retry_waits_s)
        pause_s = 0.0 if after.until is None else (after.until - self._desk.clock()).total_seconds()
        return self._again(held, detail, charge=False, after_s=max(after_s, pause_s + AFTER_PROBE_S))

    def _again(
        self, held: Claimed, detail: str, *, charge: bool, after_s: float = 0.0, waits_s: Sequence[float] = ()
    ) -> Outcome:
        if waits_s:
            wait_s = step_s(held.charged + 1, steps_s=waits_s)
        else:
            wait_s = delay_s(held.charged + 1, first_s=RETRY_S_FIRST, max_s=RETRY_S_MAX)
        retry_at = self._desk.clock() + timedelta(seconds=min(max(wait_s, after_s), RETRY_AFTER_S_MAX))
        return Outcome(state="retrying", detail=detail, retry_at=retry_at, charge=charge)


async def _deliver(endpoint: OpenEndpoint, connector: Connector, attempt: Attempt) -> Receipt | DeliveryError:
    """Call the connector's code, which may do anything, and say in the contract's words how it ended."""
    try:
        async with endpoint.in_use() as seen, asyncio.timeout(DELIVER_S):
            crash_point("connector_before_remote")
            receipt = await connector.deliver(seen, attempt)
            crash_point("connector_after_remote")
        # Taken apart and put together again, for a struct does not check what it is made of.
        return msgspec.convert(msgspec.to_builtins(receipt), Receipt)
    except TimeoutError:
        return Retryable(f"The remote did not answer within {DELIVER_S:g} s.", uncertain=True)
    except Exception as error:  # noqa: BLE001 - a connector is a stranger's code
        try:
            return failure_of(error)
        except TypeError:
            # The traceback as text: the message of a stranger's exception may hold what must not be logged.
            cause = endpoint.secrets.redacted("".join(traceback.format_exception(error)))
            log.error("connector_failed", endpoint=endpoint.endpoint_id, connector=connector.kind, cause=cause)
            return Retryable(f"The connector failed: {type(error).__name__}: {error}", uncertain=True)


async def _attempt_of(held: Claimed, standing: Standing) -> Attempt:
    document: Any = None if held.document is None else msgspec.json.decode(held.document)
    return Attempt(
        number=held.attempt,
        first=held.attempt == 1 or await fetchval(_UNUSED, held.delivery_id, held.attempt) == held.attempt - 1,
        delivery_id=str(held.delivery_id),
        correlation_id=held.event.correlation_id,
        event=as_dict(held.event),
        document=document,
        remote_id=standing.remote_id,
    )


async def _attempts_max(held: Claimed) -> int:
    found = None if held.route_id is None else await fetchval(_ATTEMPTS_MAX, held.route_id)
    return ATTEMPTS_MAX_DEFAULT if found is None else int(found)


def _unused(detail: str) -> Outcome:
    return Outcome(state="pending", detail=detail, charge=False)


def _shown(endpoint: OpenEndpoint, detail: str) -> str:
    return fit(endpoint.secrets.redacted(detail), characters_max=DETAIL_CHARACTERS_MAX)
