"""The lane of an endpoint that Busbar itself delivers to: one attempt to deliver one event."""

import asyncio
import traceback
from typing import Final

import msgspec
import structlog

from busbar.connectors.contract import Attempt, Connector, DeliveryError, Receipt, Retryable
from busbar.connectors.http import failure_of
from busbar.connectors.open_endpoint import CONNECTIONS_MAX, OpenEndpoint
from busbar.connectors.shared_breaker import SharedBreaker
from busbar.connectors.verdict import Desk, Judge, attempt_of, unused
from busbar.db import DATABASE_TROUBLE
from busbar.events.ledger import Claimed, Outcome
from busbar.kit.crash import crash_point

log = structlog.get_logger()

DELIVER_S: Final = 25.0
"""Longest time of one call of a connector; with the wait for a turn it stays below `ledger_statements.LEASE_S`."""
TURN_S: Final = 20.0
"""Longest wait for a turn, when several routes lead to the same endpoint."""


class EndpointLane:
    """Works on the deliveries of all routes that lead to one endpoint."""

    def __init__(self, endpoint_id: str, *, desk: Desk, breaker: SharedBreaker) -> None:
        self.breaker = breaker
        self._judge = Judge(endpoint_id, desk=desk, breaker=breaker)
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
        under_way = max(running, self._running)
        # The oldest is the probe: one that came after it could otherwise enter first.
        return int(under_way == 0) if admission.probe else max(0, CONNECTIONS_MAX - under_way)

    async def attempt(self, held: Claimed) -> Outcome:
        """Try once, within `TURN_S + DELIVER_S` seconds and the time of a few statements; never raises."""
        self._running += 1
        try:
            try:
                async with asyncio.timeout(TURN_S):
                    await self._turns.acquire()
            except TimeoutError:
                return unused("The endpoint's other attempts took too long.")
            try:
                return await self._attempt(held)
            finally:
                self._turns.release()
        except DATABASE_TROUBLE as error:
            # Nothing is known to be wrong with the remote or the message, so neither pays for it.
            log.warning("attempt_not_recorded", endpoint=self._endpoint_id, error=str(error) or repr(error))
            return self._judge.again(held, "The database could not be reached during the attempt.", charge=False)
        except Exception as error:
            log.exception("attempt_failed", endpoint=self._endpoint_id)
            return self._judge.broken(held, error)
        finally:
            self._running -= 1

    async def _attempt(self, held: Claimed) -> Outcome:
        admitted = await self._judge.admit(held, runner="busbar")
        if isinstance(admitted, Outcome):
            return admitted
        endpoint, standing, admission = admitted.endpoint, admitted.standing, admitted.admission
        result = await _deliver(endpoint, admitted.connector, await attempt_of(held, standing))
        if isinstance(result, DeliveryError):
            return await self._judge.failed(held, result, admission, endpoint=endpoint)
        return await self._judge.delivered(held, result, standing, admission, endpoint=endpoint)


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
