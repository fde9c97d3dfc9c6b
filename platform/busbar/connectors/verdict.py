"""What the end of an attempt means for the delivery and its endpoint, whoever made the attempt.

the remote has it            delivered; its id is remembered first, so that a crash in between loses nothing
Retryable, breaker closed    tried again later, charged; dead once the route's limit is used up
Retryable, as the probe      tried again later, uncharged, and later than the others: the next probe is another one
Permanent                    dead: it would be refused again
NothingToTell                skipped, with the reason: the remote was not asked
RateLimited, AuthExpired     uncharged; the endpoint pauses, not the message
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import msgspec

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
from busbar.connectors.http import RETRY_AFTER_S_MAX
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.references import Reference, References, Standing
from busbar.connectors.shared_breaker import SharedBreaker
from busbar.db import fetchval
from busbar.events.envelope import as_dict
from busbar.events.ledger import Claimed, Outcome
from busbar.kit.backoff import delay_s, step_s
from busbar.kit.clock import Clock

RETRY_S_FIRST: Final = 1.0
RETRY_S_MAX: Final = 300.0
AFTER_PROBE_S: Final = 3.0
"""A failed probe comes so much later than the next one may start; longer than a worker's sleep between two looks."""
ATTEMPTS_MAX_DEFAULT: Final = 12
DETAIL_CHARACTERS_MAX: Final = 500
REMOTE_ID_CHARACTERS_MAX: Final = 255

_UNUSED = "select count(*) from core.delivery_attempt where delivery_id = $1 and attempt < $2 and outcome = 'pending'"
_UNCERTAIN = """
select count(*) filter (where outcome = 'pending' or not uncertain) < $2 - 1 from core.delivery_attempt
where delivery_id = $1 and attempt < $2
"""
_ATTEMPTS_MAX = "select attempts_max from core.route where route_id = $1"


class Desk(Protocol):
    """What a lane asks of the desk that it belongs to."""

    references: References
    clock: Clock

    def get(self, endpoint_id: str) -> OpenEndpoint | None: ...
    def at_work(self, endpoint_id: str, *, runner: str = ...) -> OpenEndpoint | None: ...
    async def refresh(self) -> None: ...


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that may go on, and what it goes on with."""

    endpoint: OpenEndpoint
    connector: Connector
    standing: Standing
    admission: Admission


class Judge:
    """Decides for one endpoint whether an attempt may be made, and what its end means."""

    def __init__(self, endpoint_id: str, *, desk: Desk, breaker: SharedBreaker) -> None:
        self.breaker = breaker
        self._endpoint_id = endpoint_id
        self._desk = desk

    async def admit(self, held: Claimed, *, runner: str) -> Admitted | Outcome:
        """Let an attempt pass by the breaker, with the newest settings; an outcome when it may not be made."""
        standing = await self.standing(held)
        admission = await self.breaker.enter()
        if not admission.allowed:
            return unused("The endpoint is paused.")
        # Only now: new settings reset the breaker, and whoever it lets in afterwards must not try the old ones.
        known = self._desk.get(self._endpoint_id)
        if known is None or known.version < self.breaker.version:
            await self._desk.refresh()
        endpoint = self._desk.at_work(self._endpoint_id, runner=runner)
        if endpoint is None or endpoint.connector is None:
            return unused("The endpoint is switched off, or its plugin does not work.")
        return Admitted(endpoint=endpoint, connector=endpoint.connector, standing=standing, admission=admission)

    async def standing(self, held: Claimed) -> Standing:
        """What the database has of the endpoint and the subject now; the breaker learns from it."""
        standing = await self._desk.references.standing(self._endpoint_id, held.event.subject)
        if standing.version is not None:
            self.breaker.learn(standing.breaker, version=standing.version)
        return standing

    async def delivered(
        self, held: Claimed, receipt: Receipt, standing: Standing, admission: Admission, *, endpoint: OpenEndpoint
    ) -> Outcome:
        """The remote has it."""
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
        detail = None if receipt.detail is None else shown(endpoint, receipt.detail)
        is_c = endpoint.connector is not None and endpoint.connector.delivery_class is DeliveryClass.C
        if is_c and not receipt.once and await _may_be_there(held):
            # The flag of class C: somebody has to look at the remote, for we cannot.
            warning = "Possible duplicate: an earlier attempt ended without an answer."
            detail = warning if detail is None else f"{warning} {detail}"
        elif receipt.duplicate:
            detail = detail or "The remote had it already, from an earlier attempt."
        return Outcome(state="delivered", detail=detail, remote_id=remote_id)

    async def failed(
        self, held: Claimed, failure: DeliveryError, admission: Admission, *, endpoint: OpenEndpoint
    ) -> Outcome:
        """The remote does not have it, or has not said that it has."""
        outcome = await self._after(held, failure, admission, endpoint=endpoint)
        return msgspec.structs.replace(outcome, uncertain=isinstance(failure, Retryable) and failure.uncertain)

    async def _after(
        self, held: Claimed, failure: DeliveryError, admission: Admission, *, endpoint: OpenEndpoint
    ) -> Outcome:
        detail = shown(endpoint, failure.detail)
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
            return self.again(held, detail, charge=True, after_s=after_s, waits_s=endpoint.retry_waits_s)
        pause_s = 0.0 if after.until is None else (after.until - self._desk.clock()).total_seconds()
        return self.again(held, detail, charge=False, after_s=max(after_s, pause_s + AFTER_PROBE_S))

    def broken(self, held: Claimed, error: Exception) -> Outcome:
        """Our own code failed at it."""
        detail = f"Busbar failed at it: {type(error).__name__}."
        if held.charged + 1 >= ATTEMPTS_MAX_DEFAULT:
            return Outcome(state="dead", detail=detail)
        return self.again(held, detail, charge=True)

    def again(
        self, held: Claimed, detail: str, *, charge: bool, after_s: float = 0.0, waits_s: Sequence[float] = ()
    ) -> Outcome:
        """To be tried again, after at least `after_s` seconds."""
        if waits_s:
            wait_s = step_s(held.charged + 1, steps_s=waits_s)
        else:
            wait_s = delay_s(held.charged + 1, first_s=RETRY_S_FIRST, max_s=RETRY_S_MAX)
        retry_at = self._desk.clock() + timedelta(seconds=min(max(wait_s, after_s), RETRY_AFTER_S_MAX))
        return Outcome(state="retrying", detail=detail, retry_at=retry_at, charge=charge)


def unused(detail: str) -> Outcome:
    """Given back as it was."""
    return Outcome(state="pending", detail=detail, charge=False)


async def attempt_of(held: Claimed, standing: Standing) -> Attempt:
    """What a connector is told of an attempt."""
    document: Any = None if held.document is None else msgspec.json.decode(held.document)
    return Attempt(
        number=held.attempt,
        first=await is_first(held),
        delivery_id=str(held.delivery_id),
        correlation_id=held.event.correlation_id,
        event=as_dict(held.event),
        document=document,
        remote_id=standing.remote_id,
    )


async def is_first(held: Claimed) -> bool:
    """Whether no earlier attempt can have had an effect: all were given back unused."""
    return held.attempt == 1 or bool(await fetchval(_UNUSED, held.delivery_id, held.attempt) == held.attempt - 1)


async def _may_be_there(held: Claimed) -> bool:
    """Whether the remote may have it already, from an attempt that was lost, cut off, or ended without an answer."""
    return held.attempt > 1 and bool(await fetchval(_UNCERTAIN, held.delivery_id, held.attempt))


def shown(endpoint: OpenEndpoint, detail: str) -> str:
    """A sentence for the operator, without the endpoint's secrets."""
    return fit(endpoint.secrets.redacted(detail), characters_max=DETAIL_CHARACTERS_MAX)


async def _attempts_max(held: Claimed) -> int:
    found = None if held.route_id is None else await fetchval(_ATTEMPTS_MAX, held.route_id)
    return ATTEMPTS_MAX_DEFAULT if found is None else int(found)
