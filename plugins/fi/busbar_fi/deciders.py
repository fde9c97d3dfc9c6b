"""Who may decide a level: the named person, anybody with the named role, or who acts for one of them; four eyes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from busbar.sdk import Context, Forbidden, RuleViolated, fetch

ROLE_PREFIX: Final = "role:"
_EVERY_SITE: Final = "*"

# Whoever let the actor act for them, and is still there, with the roles and sites that they have now.
_DELEGATORS: Final = """
select distinct u.username, u.roles, u.sites from fi.delegation d
    join core.user_account u on u.username = d.delegator and u.active
where d.delegate = $1 and d.revoked_at is null and d.valid_from <= $2 and $2 < d.valid_until
order by u.username
"""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody in whose name the actor may decide: the actor, or one who delegated to the actor."""

    username: str
    entries: frozenset[str]
    """The entries of a hierarchy that mean this person: the name, and `role:<name>` for each role."""
    sites: tuple[str, ...]

    def sees(self, site_id: str) -> bool:
        """Whether the person works for the site."""
        return _EVERY_SITE in self.sites or site_id in self.sites


async def principals(ctx: Context) -> tuple[Principal, ...]:
    """The actor first, then those who delegated to the actor for now; delegations are not passed on."""
    actor = ctx.actor
    own = Principal(username=actor.username, entries=_entries(actor.username, actor.roles), sites=actor.sites)
    return (own, *await _delegators(actor.username, ctx.clock()))


async def _delegators(delegate: str, now: datetime) -> list[Principal]:
    return [
        Principal(username=row["username"], entries=_entries(row["username"], row["roles"]), sites=tuple(row["sites"]))
        for row in await fetch(_DELEGATORS, delegate, now)
    ]


def _entries(username: str, roles: Sequence[str]) -> frozenset[str]:
    return frozenset({username, *(ROLE_PREFIX + role for role in roles)})


def who_decides(
    people: Sequence[Principal], request: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]
) -> Principal:
    """The one of `people`, as `principals` gives them, in whose name the level whose turn it is may be decided.

    Raises:
        RuleViolated: the actor asked for it, or decided another level; one person is one pair of eyes.
        Forbidden: the level is for somebody else.
    """
    actor = people[0].username
    requester = request["requested_by"]
    spent = {name for level in levels for name in (level["decided_by"], level["on_behalf_of"]) if name is not None}
    if actor == requester:
        raise RuleViolated("You asked for this yourself, so somebody else has to decide it.")
    if actor in spent:
        raise RuleViolated("You decided another level of this request already; this one is for somebody else.")
    wanted = levels[request["level"] - 1]["approver"]
    for person in people:
        if (
            wanted in person.entries
            and person.username not in spent
            and person.username != requester
            and person.sees(request["site_id"])
        ):
            return person
    raise Forbidden(f"Level {request['level']} of this request is for {wanted}.")
