"""The lane of a plugin's handler: its effect and the ledger's row are one transaction, so the effect happens once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from busbar.auth.actor import Context, system_actor
from busbar.bus.worker import PER_LANE_MAX
from busbar.db import transaction
from busbar.db.trouble import CONNECTION_LOST
from busbar.errors import BusbarError, Unavailable
from busbar.events import ledger
from busbar.events.ledger import Claimed, Outcome
from busbar.events.subscriptions import Subscription
from busbar.kit.backoff import delay_s
from busbar.kit.clock import Clock

log = structlog.get_logger()

ATTEMPTS_MAX = 8
TIMEOUT_S = 30.0
"""So long a handler may take; below the lease, and below the time after which the server ends an idle transaction."""


class LeaseLost(Exception):
    """Another worker took the attempt over meanwhile; this one's effect is undone."""


class HandlerLane:
    """Runs a plugin's handler."""

    def __init__(self, subscription: Subscription, *, clock: Clock, quarantined: Callable[[str], bool]) -> None:
        self._subscription = subscription
        self._clock = clock
        self._quarantined = quarantined

    def free(self, running: int) -> int:
        return 0 if self._quarantined(self._subscription.module) else PER_LANE_MAX - running

    async def attempt(self, held: Claimed) -> Outcome | None:
        event = held.event
        ctx = Context(
            actor=system_actor(self._subscription.module),
            correlation_id=event.correlation_id,
            clock=self._clock,
            traceparent=event.traceparent,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S), transaction():
                await self._subscription.handler(ctx, event)
                if not await ledger.settle([(held, Outcome(state="delivered"))]):
                    raise LeaseLost
        except LeaseLost:
            return Outcome(state="retrying", detail="taken over by another worker", charge=False)
        except Unavailable as error:
            return self._again(held, error.detail, charge=False)
        except BusbarError as error:
            # A rule said no, and would say so again.
            return Outcome(state="dead", detail=f"{error.code}: {error.detail}")
        except CONNECTION_LOST as error:
            return self._again(held, f"database: {error!r}", charge=False)
        except TimeoutError:
            return self._failed(held, f"took longer than {TIMEOUT_S:g} s")
        except Exception as error:
            # Any other trouble with the database too: a statement that it refuses is the handler's fault.
            log.exception("handler_failed", subscription=self._subscription.name)
            return self._failed(held, repr(error))
        return None

    def _failed(self, held: Claimed, detail: str) -> Outcome:
        if held.charged + 1 >= ATTEMPTS_MAX:
            return Outcome(state="dead", detail=detail)
        return self._again(held, detail, charge=True)

    def _again(self, held: Claimed, detail: str, *, charge: bool) -> Outcome:
        wait = delay_s(held.attempt, first_s=0.5, max_s=300)
        return Outcome(state="retrying", detail=detail, retry_at=self._clock() + timedelta(seconds=wait), charge=charge)
