"""The types of event that exist, each with its data as a documented Struct."""

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

from busbar.errors import BusbarError


class EventTypeRefused(BusbarError):
    """A plugin declares an event type that is badly named, declared twice, or has no documented Struct."""


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One type of event.

    `name` starts with the module's word in capitals, as in `PM_TICKET_CREATED`; `data` is the Struct of its payload,
    whose docstring describes the event; `version` rises when a published field goes or changes its meaning.
    """

    name: str
    module: str
    data: type[msgspec.Struct]
    version: int = 1

    @property
    def description(self) -> str:
        """The first paragraph of the Struct's docstring."""
        return (inspect.getdoc(self.data) or "").split("\n\n")[0]

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the event's data, complete in itself."""
        (schema,), components = msgspec.json.schema_components([self.data], ref_template="#/$defs/{name}")
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": components}


class EventRegistry:
    """All event types of the running installation."""

    def __init__(self) -> None:
        self._types: dict[str, EventType] = {}

    def register(self, event_type: EventType) -> None:
        """Add a type.

        Raises:
            EventTypeRefused: its name lacks the module's prefix, is taken, or its Struct has no docstring.
        """
        if not event_type.name.startswith(f"{event_type.module.upper()}_") or not event_type.name.isupper():
            raise EventTypeRefused(
                f"The event {event_type.name} of {event_type.module} must be named {event_type.module.upper()}_…"
            )
        if event_type.name in self._types:
            raise EventTypeRefused(f"The event {event_type.name} is declared twice.")
        if not event_type.data.__doc__:
            raise EventTypeRefused(f"The Struct {event_type.data.__name__} of {event_type.name} needs a docstring.")
        self._types[event_type.name] = event_type

    def get(self, name: str) -> EventType:
        """The type of that name.

        Raises:
            EventTypeRefused: no plugin declares it.
        """
        try:
            return self._types[name]
        except KeyError:
            raise EventTypeRefused(f"No plugin declares the event {name}.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __iter__(self) -> Iterator[EventType]:
        return iter(sorted(self._types.values(), key=lambda event_type: event_type.name))


REGISTRY = EventRegistry()
"""Filled when the plugins are loaded."""
