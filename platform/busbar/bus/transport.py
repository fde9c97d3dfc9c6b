"""The small interface that every transport stands behind."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed


class Transport(Protocol):
    """Carries events to the workers. The ledger is the truth: what a transport loses, the reconciler sends again."""

    async def publish(self, events: Sequence[StoredEvent]) -> None:
        """Hand on events whose deliveries are committed; safe to repeat."""

    async def take(self, free_by_lane: Mapping[str, int], *, worker: int, at_most: int) -> list[Claimed]:
        """Deliveries that are ready, so many for each subscription and in all, claimed in the ledger for `worker`.

        Where there are more, the subscriptions that are named first come first.
        """

    def done(self, held: Claimed) -> None:
        """The attempt has ended, and its outcome is in the ledger or will be by the reconciler."""

    def work_signal(self) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when `take` may find something."""
