"""When a handler fails with everything, its plugin is at fault, not the events: they wait, and none is parked for it.

One that fails here and there is given poison: each such delivery is parked after its attempts, and the rest flows. When
many different deliveries have failed in a row and none was handled, the subscription is suspended: attempts go on,
a few a second, but none is charged. The first that is handled ends it, so poison alone never holds up what is good.
"""

import time
from datetime import datetime
from typing import Final

import structlog

from busbar.db import DATABASE_TROUBLE
from busbar.events import standing_orders
from busbar.kit.clock import Clock

log = structlog.get_logger()

SUSPENDED_AFTER: Final = 10
"""So many different deliveries have failed since one was last handled."""
TRY_EVERY_S: Final = 1.0
"""A suspended lane takes what fits into it so often: enough to reach what is good behind a heap of poison."""
WAIT_S_MAX: Final = 60.0
"""So soon after the plugin was mended each of its deliveries is tried again."""
TELL_EVERY_S: Final = 10.0


class Suspension:
    """Of one subscription in one worker."""

    def __init__(self, subscription: str, *, clock: Clock) -> None:
        self._subscription = subscription
        self._clock = clock
        self._failed: set[int] = set()
        self._since: datetime | None = None
        self._detail = ""
        self._next_try_s = 0.0
        self._told_at_s: float | None = None

    @property
    def resting(self) -> bool:
        """Whether nothing may be tried just now."""
        return self._since is not None and time.monotonic() < self._next_try_s

    def failed(self, delivery_id: int, detail: str) -> bool:
        """Note that the handler failed by a fault of its own; whether the subscription is suspended."""
        self._detail = detail
        if self._since is None:
            self._failed.add(delivery_id)
            if len(self._failed) >= SUSPENDED_AFTER:
                self._since = self._clock()
                log.error("handler_suspended", subscription=self._subscription, detail=detail)
        self._next_try_s = time.monotonic() + TRY_EVERY_S
        return self._since is not None

    def handled(self) -> None:
        """Note that the handler did its work, or refused with a reason."""
        if self._since is not None:
            log.info("handler_resumed", subscription=self._subscription)
        self._failed.clear()
        self._since = None

    async def tell(self) -> None:
        """Write down for everybody what is new; now and then again, for another worker may have written otherwise."""
        told_s_ago = None if self._told_at_s is None else time.monotonic() - self._told_at_s
        try:
            if self._since is not None and (told_s_ago is None or told_s_ago > TELL_EVERY_S):
                await standing_orders.suspend(self._subscription, since=self._since, detail=self._detail)
                self._told_at_s = time.monotonic()
            elif self._since is None and told_s_ago is not None:
                await standing_orders.resume(self._subscription)
                self._told_at_s = None
        except DATABASE_TROUBLE as error:
            log.warning("suspension_not_told", subscription=self._subscription, error=str(error) or repr(error))
