"""Making, changing, publishing and switching off routes; each act makes a new version, and every version is kept."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, FieldError, Forbidden, ForbiddenTransition, InvalidPayload, NotFound, RuleViolated
from busbar.routing.definition import RouteDefinition, State, as_stored, differences
from busbar.routing.rules import BadRule, CompiledRule
from busbar.web.conditional import ANY_VERSION, IfMatch

ROUTE_ID_CHARACTERS_MAX: Final = 40
RESERVED: Final = frozenset({"dry-run"})
"""Addresses under `/routes` that are no route."""

_INSERT = """
insert into core.route (route_id, name, sites, pattern, filter, mapping, endpoint_id, attempts_max, state, version,
    created_at, updated_at)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, 'draft', 1, $9, $9)
"""
_UPDATE = """
update core.route set name = $2, sites = $3, pattern = $4, filter = $5, mapping = $6::jsonb, endpoint_id = $7,
    attempts_max = $8, updated_at = $9, state = $10, version = $11
where route_id = $1
"""
_KEEP = """
insert into core.route_version (route_id, version, action, state, rule, changed_by, changed_at)
values ($1, $2, $3, $4, $5::jsonb, $6, $7)
"""


class RouteChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different at a route; what is left out stays."""

    name: str | UnsetType = UNSET
    sites: tuple[str, ...] | UnsetType = UNSET
    """All of them; empty for all sites."""
    pattern: tuple[str, ...] | UnsetType = UNSET
    filter: str | UnsetType | None = UNSET
    mapping: dict[str, Any] | UnsetType | None = UNSET
    endpoint_id: str | UnsetType = UNSET
    attempts_max: int | UnsetType = UNSET


async def create_route(ctx: Context, definition: RouteDefinition, *, route_id: str | None = None) -> str:
    """Make a route as a draft, which handles no event yet; returns its id, by default made of its name.

    Raises:
        InvalidPayload: the pattern, filter or mapping cannot be used, or the endpoint or a site does not exist; every
            bad place is named, such as `mapping.items[0].name`.
        Forbidden: the actor does not work for all of its sites.
        Conflict: the id is taken.
    """
    _require_sites(ctx, definition.sites)
    definition = _tidy(definition)
    route_id = route_id or _id_of(definition.name)
    if route_id in RESERVED:
        fault = FieldError(field="route_id", message=f"{route_id} is the address of something else; take another id.")
        raise InvalidPayload("Not accepted: route_id.", errors=[fault])
    async with transaction():
        await _check(ctx, definition)
        try:
            await execute(_INSERT, route_id, *_columns(definition), ctx.clock())
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a route {route_id} already; give this one another id.") from None
        await _keep(ctx, route_id, definition, version=1, action="create", state="draft", before=None)
    return route_id


async def change_route(ctx: Context, route_id: str, changes: RouteChanges, *, expected: IfMatch = ANY_VERSION) -> int:
    """Change a route; returns its version, which is the same if nothing is different.

    A change of a published route counts from the next event on; what was mapped before is delivered as it is.

    Raises:
        NotFound: there is no such route, or the actor works for none of its sites.
        Forbidden: the actor does not work for all of its sites, old and new.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: every bad place is named.
        RuleViolated: another endpoint is named, and the route is no draft any more.
    """
    async with transaction():
        row = await _lock(ctx, route_id, expected)
        before = definition_of(row)
        given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET}
        after = _tidy(msgspec.structs.replace(before, **given))
        if after == before:
            return int(row["version"])
        return await _change(ctx, row, after, action="change")


async def roll_back_route(ctx: Context, route_id: str, *, version: int, expected: IfMatch = ANY_VERSION) -> int:
    """Let a route say again what it said at an earlier version; returns the new version. Its state stays.

    Raises:
        NotFound: there is no such route or version, or the actor works for none of its sites.
        Forbidden, StaleVersion, InvalidPayload: as with `change_route`.
        RuleViolated: it says that already, or it went to another endpoint then and is no draft any more.
    """
    async with transaction():
        row = await _lock(ctx, route_id, expected)
        text = await fetchval(
            "select rule from core.route_version where route_id = $1 and version = $2", route_id, version
        )
        if text is None:
            raise NotFound(f"The route {route_id} has no version {version}.")
        after = msgspec.json.decode(text, type=RouteDefinition)
        if after == definition_of(row):
            raise RuleViolated(f"The route {route_id} says the same as at version {version}; there is nothing to do.")
        return await _change(ctx, row, after, action="rollback", details={"to_version": version})


async def publish_route(ctx: Context, route_id: str, *, expected: IfMatch = ANY_VERSION) -> int:
    """Let a draft, or a route that is off, handle events from now on; returns the new version.

    Raises:
        NotFound, Forbidden, StaleVersion, InvalidPayload: as with `change_route`.
        ForbiddenTransition: it is published already.
    """
    async with transaction():
        row = await _lock(ctx, route_id, expected)
        if row["state"] == "published":
            raise ForbiddenTransition(f"The route {route_id} is published already.")
        definition = definition_of(row)
        await _check(ctx, definition)
        return await _write(ctx, row, definition, action="publish", state="published")


async def switch_off_route(ctx: Context, route_id: str, *, expected: IfMatch = ANY_VERSION) -> int:
    """Let a route handle no further event; returns the new version. What it has already made is still delivered.

    Raises:
        NotFound, Forbidden, StaleVersion: as with `change_route`.
        ForbiddenTransition: it is off already.
    """
    async with transaction():
        row = await _lock(ctx, route_id, expected)
        if row["state"] == "off":
            raise ForbiddenTransition(f"The route {route_id} is off already.")
        return await _write(ctx, row, definition_of(row), action="off", state="off")


def definition_of(row: asyncpg.Record) -> RouteDefinition:
    """The definition in a row of core.route."""
    return RouteDefinition(
        name=row["name"],
        sites=tuple(row["sites"]),
        pattern=tuple(row["pattern"]),
        filter=row["filter"],
        mapping=None if row["mapping"] is None else msgspec.json.decode(row["mapping"]),
        endpoint_id=row["endpoint_id"],
        attempts_max=row["attempts_max"],
    )


def check_rule(definition: RouteDefinition) -> list[FieldError]:
    """Every fault of the pattern, filter and mapping, named by the fields of a route."""
    faults: list[FieldError] = []
    try:
        CompiledRule(definition.rule)
    except BadRule as error:
        faults.extend(FieldError(field=_field(each.field), message=each.message) for each in error.errors)
    if definition.mapping is not None and definition.mapping.keys() & {"=for", "=each"}:
        message = 'An endpoint takes one object; put the list into a member, as in {"items": {"=for": …}}.'
        faults.append(FieldError(field="mapping", message=message))
    return faults


async def _change(
    ctx: Context, row: asyncpg.Record, after: RouteDefinition, *, action: str, details: dict[str, Any] | None = None
) -> int:
    _require_sites(ctx, after.sites)
    if after.endpoint_id != row["endpoint_id"] and row["state"] != "draft":
        raise RuleViolated(
            f"The route {row['route_id']} has been published, and may have deliveries under way to "
            f"{row['endpoint_id']}; make another route for {after.endpoint_id}, and switch this one off."
        )
    await _check(ctx, after)
    return await _write(ctx, row, after, action=action, state=row["state"], details=details)


async def _write(
    ctx: Context,
    row: asyncpg.Record,
    definition: RouteDefinition,
    *,
    action: str,
    state: State,
    details: dict[str, Any] | None = None,
) -> int:
    version = int(row["version"]) + 1
    await execute(_UPDATE, row["route_id"], *_columns(definition), ctx.clock(), state, version)
    await _keep(ctx, row["route_id"], definition, version=version, action=action, state=state, before=row, told=details)
    return version


async def _keep(
    ctx: Context,
    route_id: str,
    definition: RouteDefinition,
    *,
    version: int,
    action: str,
    state: State,
    before: asyncpg.Record | None,
    told: dict[str, Any] | None = None,
) -> None:
    """Keep the version, tell the trail, and wake those who match events."""
    stored = as_stored(definition)
    text = msgspec.json.encode(stored).decode()
    await execute(_KEEP, route_id, version, action, state, text, ctx.actor.username, ctx.clock())
    former = {} if before is None else as_stored(definition_of(before))
    await record(
        ctx,
        action=f"route.{action}",
        object_kind="route",
        object_id=route_id,
        site_id=definition.sites[0] if len(definition.sites) == 1 else None,
        previous_status=None if before is None else before["state"],
        new_status=state,
        details={"version": version, "changes": differences(former, stored), **(told or {})},
    )
    on_commit(_tell)


async def _lock(ctx: Context, route_id: str, expected: IfMatch) -> asyncpg.Record:
    row = await fetchrow("select * from core.route where route_id = $1 for update", route_id)
    if row is None or not (not row["sites"] or any(ctx.actor.sees_site(site) for site in row["sites"])):
        raise NotFound(f"There is no route {route_id}.")
    _require_sites(ctx, row["sites"])
    expected.require(row["version"])
    return row


def _require_sites(ctx: Context, sites: Sequence[str]) -> None:
    if not sites and ctx.actor.site_filter is not None:
        raise Forbidden("A route of all sites is for those who work for all sites; name yours.")
    for site in sites:
        ctx.require_site(site)


async def _check(ctx: Context, definition: RouteDefinition) -> None:
    """Refuse a definition that could not work, naming everything that is wrong with it."""
    faults = [*check_rule(definition), *await _check_places(ctx, definition)]
    if faults:
        raise InvalidPayload("The route cannot be used; see errors.", errors=faults)


async def _check_places(ctx: Context, definition: RouteDefinition) -> list[FieldError]:
    known = await fetchval("select array_agg(site_id) from core.site where site_id = any($1)", list(definition.sites))
    unknown = sorted(set(definition.sites) - set(known or ()))
    faults = [FieldError(field="sites", message=f"There is no site {site}.") for site in unknown]
    endpoint = await fetchrow("select sites from core.endpoint where endpoint_id = $1", definition.endpoint_id)
    served: list[str] = [] if endpoint is None else endpoint["sites"]
    if endpoint is None or (served and not any(ctx.actor.sees_site(site) for site in served)):
        message = f"There is no endpoint {definition.endpoint_id}."
        faults.append(FieldError(field="endpoint_id", message=message))
    elif served and not (definition.sites and set(definition.sites) <= set(served)):
        message = (
            f"The endpoint {definition.endpoint_id} takes events of {', '.join(served)} only; name sites of these."
        )
        faults.append(FieldError(field="sites", message=message))
    return faults


def _field(path: str) -> str:
    """A place in a rule as a place in a route: its pattern's types and sites are fields of their own there."""
    return re.sub(r"^pattern\.sites", "sites", re.sub(r"^pattern\.types", "pattern", path))


def _tidy(definition: RouteDefinition) -> RouteDefinition:
    return msgspec.structs.replace(
        definition, sites=tuple(sorted(set(definition.sites))), pattern=tuple(dict.fromkeys(definition.pattern))
    )


def _columns(definition: RouteDefinition) -> tuple[Any, ...]:
    mapping = None if definition.mapping is None else msgspec.json.encode(definition.mapping).decode()
    return (
        definition.name,
        list(definition.sites),
        list(definition.pattern),
        definition.filter,
        mapping,
        definition.endpoint_id,
        definition.attempts_max,
    )


def _id_of(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not words or not words[0].isalpha():
        words = f"route-{words}"
    return words[:ROUTE_ID_CHARACTERS_MAX].strip("-")


def _tell() -> None:
    poke(Channel.CONFIG)
