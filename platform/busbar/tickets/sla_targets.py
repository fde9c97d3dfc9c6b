"""Setting and reading the targets: of all sites, and of one that is to have others."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import FieldError, Forbidden, InvalidPayload, NotFound
from busbar.tickets import sla
from busbar.tickets.sla_terms import ALL_SITES, BUILT_IN, StoredTerms, stored_terms
from busbar.web.conditional import ANY_VERSION, IfMatch

Seconds = Annotated[int, Meta(ge=60, le=60 * 86_400)]
"""From a minute to sixty days of working time."""
Percent = Annotated[int, Meta(ge=1, le=99)]
SlaClass = Literal["standard", "storm"]
Priority = Literal["P1", "P2", "P3", "P4"]


class TargetSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised for a class and priority."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "sla_class": "standard",
        "priority": "P1",
        "response_s": 900,
        "resolution_s": 14_400,
    }

    sla_class: SlaClass
    priority: Priority
    response_s: Seconds
    """Seconds of working time until somebody takes the ticket."""
    resolution_s: Seconds
    """Seconds of working time until the work is done."""


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised for a class and priority, and where that was set."""

    sla_class: str
    priority: str
    response_s: int
    resolution_s: int
    set_for: Literal["site", "all_sites", "nobody"]
    """`nobody`: it is what Busbar comes with."""


class TargetsView(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised at a site, or at every site that has no targets of its own."""

    site: str | None
    """Null: all sites."""
    warn_percent: int
    """A warning is told when so much of a target is used up."""
    targets: tuple[TargetView, ...]
    version: int
    """0 until somebody sets targets here."""


async def set_targets(
    ctx: Context,
    site_id: str | None,
    *,
    targets: Sequence[TargetSetting],
    warn_percent: int | None,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Set the targets of a site, or with None of all; what is left out is as for all, or as Busbar comes.

    Returns the version. Tickets that are open keep what they were promised.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
        Forbidden: the actor works for some sites only, and these are the targets of all.
        StaleVersion: somebody else changed them meanwhile.
        InvalidPayload: a class and priority is named twice, or a resolution is promised before the response.
    """
    if errors := _errors(targets):
        raise InvalidPayload("The targets cannot be used.", errors=errors)
    if site_id is None and ctx.actor.site_filter is not None:
        raise Forbidden("Only somebody who works for all sites can set the targets of all sites.")
    stored: dict[str, dict[str, sla.Target]] = {}
    for each in targets:
        stored.setdefault(each.sla_class, {})[each.priority] = sla.Target(each.response_s, each.resolution_s)
    scope = site_id or ALL_SITES
    async with transaction():
        await _require_site(ctx, site_id)
        # Whoever sets them first makes the row; the others wait for it here.
        await execute(
            "insert into core.sla_terms (scope, targets, version, updated_at) values ($1, '{}', 0, $2) "
            "on conflict do nothing",
            scope,
            ctx.clock(),
        )
        row = await fetchrow("select version from core.sla_terms where scope = $1 for update", scope)
        assert row is not None, "it was made just now"
        expected.require(row["version"])
        await execute(
            "update core.sla_terms set targets = $2::jsonb, warn_percent = $3, version = version + 1, updated_at = $4 "
            "where scope = $1",
            scope,
            msgspec.json.encode(stored).decode(),
            warn_percent,
            ctx.clock(),
        )
        await record(
            ctx,
            action="sla.set_targets",
            object_kind="sla_targets",
            object_id=scope,
            site_id=site_id,
            details={"targets": targets, "warn_percent": warn_percent},
        )
        on_commit(_changed)
        return int(row["version"]) + 1


async def get_targets(ctx: Context, site_id: str | None) -> TargetsView:
    """The targets of a site, or with None those of every site that has none of its own.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
    """
    await _require_site(ctx, site_id)
    for_all, _ = await _stored(ALL_SITES)
    own, version = await _stored(site_id or ALL_SITES)
    terms = BUILT_IN.with_stored(for_all).with_stored(own)
    return TargetsView(
        site=site_id,
        warn_percent=terms.warn_percent,
        targets=tuple(
            TargetView(
                sla_class=sla_class,
                priority=priority,
                response_s=target.response_s,
                resolution_s=target.resolution_s,
                set_for=_set_for(sla_class, priority, own if site_id is not None else None, for_all),
            )
            for sla_class, targets in terms.targets.items()
            for priority, target in targets.items()
        ),
        version=version,
    )


async def _require_site(ctx: Context, site_id: str | None) -> None:
    if site_id is None:
        return
    if await fetchrow("select 1 from core.site where site_id = $1", site_id) is None or not ctx.actor.sees_site(
        site_id
    ):
        raise NotFound(f"There is no site {site_id}.")


async def _stored(scope: str) -> tuple[StoredTerms, int]:
    row = await fetchrow("select * from core.sla_terms where scope = $1", scope)
    return (StoredTerms(targets={}), 0) if row is None else (stored_terms(row), row["version"])


def _set_for(
    sla_class: str, priority: str, own: StoredTerms | None, for_all: StoredTerms
) -> Literal["site", "all_sites", "nobody"]:
    if own is not None and priority in own.targets.get(sla_class, {}):
        return "site"
    return "all_sites" if priority in for_all.targets.get(sla_class, {}) else "nobody"


def _errors(targets: Sequence[TargetSetting]) -> list[FieldError]:
    errors = []
    seen = set()
    for n, each in enumerate(targets):
        if (each.sla_class, each.priority) in seen:
            errors.append(FieldError(field=f"targets[{n}]", message="This class and priority is named twice."))
        seen.add((each.sla_class, each.priority))
        if each.resolution_s < each.response_s:
            errors.append(
                FieldError(field=f"targets[{n}].resolution_s", message="Must not be shorter than the response.")
            )
    return errors


def _changed() -> None:
    poke(Channel.CONFIG)
