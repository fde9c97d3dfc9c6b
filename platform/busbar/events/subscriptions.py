"""Who gets which events: what the relay asks for each event."""

from collections.abc import Awaitable, Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Protocol

import msgspec

from busbar.auth.actor import Context
from busbar.events.envelope import StoredEvent

Handler = Callable[[Context, StoredEvent], Awaitable[None]]
"""A plugin's reaction; it runs in the transaction that marks the delivery as done, so its effect happens once."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin's standing order for events.

    `name` is `<module>.<words>`, unique and stable, for it names the deliveries in the ledger. `pattern` lists event
    types, with `*` as a wildcard. `ordered` keeps the order within a subject.
    """

    name: str
    module: str
    pattern: tuple[str, ...]
    handler: Handler
    ordered: bool = True

    def wants(self, event_type: str) -> bool:
        """Whether the pattern matches."""
        return any(fnmatchcase(event_type, one) for one in self.pattern)


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery that an event leads to, or the reason why it does not."""

    subscription: str
    ordering_key: str | None = None
    endpoint_id: str | None = None
    route_id: str | None = None
    route_version: int | None = None
    document: dict[str, Any] | None = None
    state: str = "pending"
    """`pending`; `skipped` when a rule says so, `dead` when it cannot be worked out; then `reason` says why."""
    reason: str | None = None


class Matcher(Protocol):
    """Something that knows subscriptions: the plugins' handlers, the routes."""

    def match(self, event: StoredEvent) -> Iterable[Match]:
        """What the event leads to; must not raise, and calls no one."""


class HandlerMatcher:
    """The subscriptions of the plugins, each where its module is enabled at the event's site."""

    def __init__(self, subscriptions: Iterable[Subscription], enabled: Callable[[str, str], bool]) -> None:
        self.by_name = {subscription.name: subscription for subscription in subscriptions}
        self._enabled = enabled

    def match(self, event: StoredEvent) -> Iterable[Match]:
        for subscription in self.by_name.values():
            if not subscription.wants(event.event_type):
                continue
            key = event.subject if subscription.ordered else None
            if self._enabled(event.site_id, subscription.module):
                yield Match(subscription=subscription.name, ordering_key=key)
            else:
                reason = f"the module {subscription.module} is not enabled at {event.site_id}"
                yield Match(subscription=subscription.name, state="skipped", reason=reason)
