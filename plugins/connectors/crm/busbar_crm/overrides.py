"""How the fields that a route's mapping made replace the connector's own, one by one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from busbar.sdk import Permanent

Fields = dict[str, Any]
"""Field name to text, number, truth or null."""

COMMENT = "Comments"
"""Case's own field for a comment to be made; here it replaces ours."""

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


class Overridden(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says of a Case, before and after the mapping."""

    ticket: Fields
    facts: Fields
    opening: Fields
    comment: str


def overridden(document: Mapping[str, Any], said: Overridden, *, reserved: Sequence[str]) -> Overridden:
    """What is said with the fields of `document` put in: null leaves a field out, "" clears it.

    A field that none of the sets has joins the event's main set, and so grows old with it; where the event is a mere
    comment, it is for a new Case only. Raises Permanent, naming the field, for what a Case cannot take.
    """
    ticket, facts, opening, comment = dict(said.ticket), dict(said.facts), dict(said.opening), said.comment
    main = ticket or facts or opening
    kept = {name.casefold(): name for name in reserved}
    for name, value in document.items():
        if not _FIELD.fullmatch(name):
            raise Permanent(f"The route's mapping makes a field {name!r}, which is no field name of Salesforce.")
        if name.casefold() in kept:
            raise Permanent(f"The route's mapping makes {name}, which Busbar keeps for itself; take it out.")
        if not isinstance(value, str | bool | int | float | None):
            kind = type(value).__name__
            raise Permanent(f"The route's mapping makes {name} a {kind}; a field is text, number or truth.")
        if name == COMMENT:
            comment = "" if value is None else str(value)
            continue
        target = facts if name in facts else ticket if name in ticket else main
        if target is not opening:
            opening.pop(name, None)
        if value is None:
            target.pop(name, None)
        else:
            # Salesforce clears a field by null.
            target[name] = None if value == "" else value
    return Overridden(ticket=ticket, facts=facts, opening=opening, comment=comment)
