"""Which events a route or a subscription wants: types by name or prefix, and optionally sites and modules."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from busbar.errors import FieldError, InvalidPayload

TYPE_PATTERNS_MAX = 50
TYPE_PATTERN_CHARS_MAX = 100
SITES_MAX = 200
MODULES_MAX = 50
NAME_CHARS_MAX = 64

_TYPE_PATTERN = re.compile(r"\*|[A-Za-z][A-Za-z0-9_.-]*\*?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class BadPattern(InvalidPayload):
    """The event pattern cannot be used; every bad entry is named."""


class EventPattern(msgspec.Struct, frozen=True, kw_only=True):
    """The events that are wanted: those that fit one of the types, at one of the sites, of one of the modules."""

    types: tuple[str, ...] = ("*",)
    """One event type per entry: `PM_TICKET_CREATED` is that type, `PM_*` all that start with `PM_`, `*` all."""
    sites: tuple[str, ...] = ()
    """Ids of sites; none named means all."""
    modules: tuple[str, ...] = ()
    """Names of modules, such as `pm`; none named means all."""

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether a CloudEvent, as a dict, is wanted."""
        return self.mismatch(event) is None

    def mismatch(self, event: Mapping[str, Any]) -> str | None:
        """Why a CloudEvent is not wanted, as a sentence; None when it is."""
        event_type = str(event.get("type", ""))
        if not any(type_matches(pattern, event_type) for pattern in self.types):
            return f"The event's type is {event_type or 'missing'}; the route wants {_one_of(self.types)}."
        site = site_of(event)
        if self.sites and site not in self.sites:
            return f"The event's site is {site or 'missing'}; the route wants {_one_of(self.sites)}."
        module = module_of(event)
        if self.modules and module not in self.modules:
            return f"The event's module is {module or 'missing'}; the route wants {_one_of(self.modules)}."
        return None


def type_matches(pattern: str, event_type: str) -> bool:
    """Whether an event type is the pattern, or starts with what stands before the pattern's `*`."""
    if pattern.endswith("*"):
        return event_type.startswith(pattern[:-1])
    return event_type == pattern


def site_of(event: Mapping[str, Any]) -> str | None:
    """The site of a CloudEvent: its extension `site`, else the second part of `source` (`/busbar/{site}/{module}`)."""
    site = event.get("site")
    return str(site) if site else _part_of_source(event, 1)


def module_of(event: Mapping[str, Any]) -> str | None:
    """The module of a CloudEvent: the third part of `source` (`/busbar/{site}/{module}`)."""
    return _part_of_source(event, 2)


def check_pattern(pattern: EventPattern) -> None:
    """Refuse a pattern that could never match, or that is larger than any use needs.

    Raises:
        BadPattern: with one FieldError for every bad entry, such as `types[1]`.
    """
    errors = [
        *_check_types(pattern.types),
        *_check_names("sites", pattern.sites, count_max=SITES_MAX),
        *_check_names("modules", pattern.modules, count_max=MODULES_MAX),
    ]
    if errors:
        raise BadPattern("The event pattern cannot be used; see errors.", errors=errors)


def _check_types(types: tuple[str, ...]) -> list[FieldError]:
    if not types:
        return [FieldError(field="types", message="Name at least one event type; `*` stands for all.")]
    if len(types) > TYPE_PATTERNS_MAX:
        return [FieldError(field="types", message=f"At most {TYPE_PATTERNS_MAX} entries are taken.")]
    return [
        FieldError(field=f"types[{index}]", message=_type_complaint(pattern))
        for index, pattern in enumerate(types)
        if len(pattern) > TYPE_PATTERN_CHARS_MAX or not _TYPE_PATTERN.fullmatch(pattern)
    ]


def _type_complaint(pattern: str) -> str:
    if len(pattern) > TYPE_PATTERN_CHARS_MAX:
        return f"A pattern has at most {TYPE_PATTERN_CHARS_MAX} characters."
    if "," in pattern or " " in pattern:
        return "Give every event type an entry of its own, without commas or spaces."
    if "*" in pattern:
        return "`*` may stand only at the end, as in `PM_*`."
    return "Write an event type such as `PM_TICKET_CREATED`, a prefix such as `PM_*`, or `*`."


def _check_names(field: str, names: tuple[str, ...], *, count_max: int) -> list[FieldError]:
    if len(names) > count_max:
        return [FieldError(field=field, message=f"At most {count_max} entries are taken.")]
    return [
        FieldError(field=f"{field}[{index}]", message="Write one id, without wildcards; leave the list empty for all.")
        for index, name in enumerate(names)
        if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name)
    ]


def _part_of_source(event: Mapping[str, Any], index: int) -> str | None:
    parts = str(event.get("source", "")).strip("/").split("/")
    if len(parts) < 3 or parts[0] != "busbar":
        return None
    return parts[index] or None


def _one_of(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} or {len(names) - 5} more"
