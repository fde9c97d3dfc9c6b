"""The small interface that every transport stands behind."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Claimed

Key = tuple[str, str]
"""A subscription and an ordering key."""


def keys_with_room(keys: Iterable[Key], free_by_lane: Mapping[str, int], *, at_most: int) -> list[Key]:
    """As many of the keys as their subscriptions have room for, and no more in all."""
    room, chosen = Counter(free_by_lane), list[Key]()
    for key in keys:
        if room[key[0]] > 0 and len(chosen) < at_most:
            room[key[0]] -= 1
            chosen.append(key)
    return chosen


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
