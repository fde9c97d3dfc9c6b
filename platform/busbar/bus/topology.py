"""What Busbar has at a RabbitMQ broker: exchanges, queues and how they are bound.

`rabbitmq/definitions.json` says the same for operators who import it; a test compares the two. Queues of the workers'
subscriptions come and go with plugins and routes, so the workers declare them; `deliver_queue` says how.

Every queue is a quorum queue with a delivery limit of its own, for before RabbitMQ 4 there is none by default
(LESSONS B5), and with a bound on its length: what overflows is in the ledger, and is taken from there.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from busbar.events.registry import EventType

EVENTS: Final = "busbar.events"
"""Topic exchange of all events; routing key `<site>.<module>.<event type>`."""
HANDOVER: Final = "busbar.handover"
"""Topic exchange of deliveries that another runner makes; routing key `<runner>.<connector kind>.<endpoint id>`."""
OUTCOMES: Final = "busbar.outcomes"
"""Direct exchange, and queue, of what became of those; routing key is the runner."""
DEAD: Final = "busbar.dead"
"""Fanout exchange, and queue, of messages that nobody could take."""
CANARY: Final = "busbar.canary"
"""Direct exchange of the messages by which a consumer shows that it lives; each has a queue for itself."""

EXCHANGES: Final[Mapping[str, str]] = {
    EVENTS: "topic",
    HANDOVER: "topic",
    OUTCOMES: "direct",
    DEAD: "fanout",
    CANARY: "direct",
}
RUNNERS: Final = ("camel",)
HANDED_OVER_KINDS: Final = ("itsm", "erp", "crm")
"""Kinds of connector for which each runner has a queue from the start."""

DELIVERY_LIMIT: Final = 20
"""So often a message is given to a consumer that does not settle it; then it is dead-lettered."""
LENGTH_MAX: Final = 100_000
UNUSED_MS: Final = 7 * 24 * 3_600_000
"""A subscription's queue that nobody consumes goes after so long: its route is gone, or its plugin."""
BINDINGS_MAX: Final = 100
"""One subscription has no more bindings; it is bound more widely instead, and skips what it does not want."""


class Binding(msgspec.Struct, frozen=True, order=True):
    """Which messages of an exchange a queue gets."""

    exchange: str
    key: str


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A durable quorum queue."""

    name: str
    bindings: tuple[Binding, ...]
    arguments: Mapping[str, Any]


def quorum(*, delivery_limit: int = DELIVERY_LIMIT, dead_letters: bool = True, **more: Any) -> dict[str, Any]:
    """The arguments of a queue; `more` are further ones, with underscores for hyphens and without the `x-`."""
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": delivery_limit,
        "x-max-length": LENGTH_MAX,
        "x-overflow": "drop-head",
    }
    if dead_letters:
        arguments["x-dead-letter-exchange"] = DEAD
    return arguments | {f"x-{name.replace('_', '-')}": value for name, value in more.items()}


STATIC_QUEUES: Final = (
    # Read by people, who put back what they looked at: practically no limit.
    Queue(name=DEAD, bindings=(Binding(DEAD, ""),), arguments=quorum(delivery_limit=1_000_000_000, dead_letters=False)),
    Queue(name=OUTCOMES, bindings=tuple(Binding(OUTCOMES, runner) for runner in RUNNERS), arguments=quorum()),
    *(
        Queue(name=f"busbar.{runner}.{kind}", bindings=(Binding(HANDOVER, f"{runner}.{kind}.#"),), arguments=quorum())
        for runner in RUNNERS
        for kind in HANDED_OVER_KINDS
    ),
)
"""The queues that are there whatever is configured."""


def deliver_queue(subscription: str, keys: Iterable[str]) -> Queue:
    """The queue of a handler or a route, which gets the events with these routing keys."""
    return Queue(
        name=f"busbar.deliver.{subscription}",
        bindings=tuple(Binding(EVENTS, key) for key in sorted(set(keys))),
        arguments=quorum(expires=UNUSED_MS),
    )


def routing_key(site_id: str, module: str, event_type: str) -> str:
    """Where an event is published to."""
    return f"{site_id}.{module}.{event_type}"


def binding_keys(patterns: Iterable[str], sites: Iterable[str], known: Iterable[EventType]) -> list[str]:
    """Binding keys for event type patterns, with `*` as a wildcard, at these sites; no site means all.

    A wildcard of the broker stands for a whole word, one of a pattern for a part of it. So a pattern becomes the names
    of the known types that it fits, or `*` where it fits all types of a module.
    """
    types: set[tuple[str, str]] = set()
    modules: dict[str, set[str]] = {}
    for event_type in known:
        modules.setdefault(event_type.module, set()).add(event_type.name)
    for pattern in patterns:
        if pattern == "*":
            types = {("*", "*")}
            break
        for module, names in modules.items():
            wanted = {name for name in names if fnmatchcase(name, pattern)}
            types |= {(module, "*")} if wanted == names else {(module, name) for name in wanted}
    types = {(module, name) for module, name in types if name == "*" or (module, "*") not in types}
    places = sorted(set(sites)) or ["*"]
    if len(places) * len(types) > BINDINGS_MAX:
        places = ["*"]
    if len(types) > BINDINGS_MAX:
        types = {(module, "*") for module, _ in types}
    return sorted(routing_key(site, module, name) for site in places for module, name in types)


def static_definitions(vhost: str) -> dict[str, Any]:
    """All of this in the form that RabbitMQ imports and exports, without users."""
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {
                "name": name,
                "vhost": vhost,
                "type": kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for name, kind in EXCHANGES.items()
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in STATIC_QUEUES
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": queue.name,
                "destination_type": "queue",
                "routing_key": binding.key,
                "arguments": {},
            }
            for queue in STATIC_QUEUES
            for binding in queue.bindings
        ],
    }
