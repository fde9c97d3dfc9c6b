"""How the fields that a route's mapping made replace the connector's own, one by one."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from busbar.sdk import Permanent

Fields = dict[str, str]

RESERVED = ("correlation_id", "correlation_display")
"""By these Busbar finds its record and knows what it has told."""

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,79}")


def overridden(
    document: Mapping[str, Any], *, ticket: Fields, facts: Fields, opening: Fields
) -> tuple[Fields, Fields, Fields]:
    """The three sets of fields with those of `document` put in: null leaves a field out, "" clears it.

    A field that none of the sets has joins the event's main set, and so grows old with it. Raises Permanent, naming
    the field, for what the Table API cannot take.
    """
    ticket, facts, opening = dict(ticket), dict(facts), dict(opening)
    main = ticket or facts
    for name, value in document.items():
        if not _FIELD.fullmatch(name):
            raise Permanent(f"The route's mapping makes a field {name!r}, which is no field name of ServiceNow.")
        if name in RESERVED:
            raise Permanent(f"The route's mapping makes {name}, which Busbar keeps for itself; take it out.")
        opening.pop(name, None)
        target = facts if name in facts else ticket if name in ticket else main
        if value is None:
            target.pop(name, None)
        else:
            target[name] = _text(name, value)
    return ticket, facts, opening


def _text(name: str, value: Any) -> str:
    """A value as the Table API sends and takes it: every one is a string."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    raise Permanent(f"The route's mapping makes {name} a {type(value).__name__}; a field is text, number or truth.")
