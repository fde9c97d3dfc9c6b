"""What may be said of a failure: a catalogue of codes in four groups, which are data (ISO 14224, SAP PM catalogues)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, get_args

import msgspec

from busbar.sdk import (
    Context,
    FieldError,
    Forbidden,
    InvalidPayload,
    RuleViolated,
    Where,
    fetch,
    fetchrow,
    record,
    transaction,
)
from busbar_pm.events import UNKNOWN

CodeGroup = Literal["object_part", "damage", "cause", "detection"]
CODE_GROUPS: Final[tuple[str, ...]] = get_args(CodeGroup)
"""Which part failed, how it was damaged, why, and how that was found: ISO 14224, annex B, in SAP's words."""


class FailureCode(msgspec.Struct, frozen=True, kw_only=True):
    """A code of the catalogue; one that is not active stays readable and is not given any more."""

    code_group: CodeGroup
    code: str
    title: str
    active: bool = True


async def put_code(ctx: Context, code: FailureCode) -> FailureCode:
    """Add a code to the catalogue, or change the title of one and whether it may be given.

    Raises:
        Forbidden: the actor works for some sites only, and all sites share the catalogue.
        RuleViolated: `unknown` is to be given up; without it people would have to guess.
    """
    ctx.require("pm.write")
    if ctx.actor.site_filter is not None:
        raise Forbidden("Only somebody who works for all sites can change the catalogue, which all sites share.")
    if code.code == UNKNOWN and not code.active:
        raise RuleViolated("The code unknown stays: without it, people would have to guess.")
    async with transaction():
        row = await fetchrow(
            "insert into pm.failure_code (code_group, code, title, active) values ($1, $2, $3, $4) "
            "on conflict (code_group, code) do update set title = excluded.title, active = excluded.active "
            "returning code_group, code, title, active",
            code.code_group,
            code.code,
            code.title,
            code.active,
        )
        assert row is not None, "the statement returns what it wrote"
        await record(
            ctx,
            action="failure_code.put",
            object_kind="failure_code",
            object_id=f"{code.code_group}.{code.code}",
            details={"title": code.title, "active": code.active},
        )
    return FailureCode(**row)


async def list_codes(ctx: Context, *, code_group: CodeGroup | None, active: bool | None) -> tuple[FailureCode, ...]:
    """The catalogue, by group and title, `unknown` last in each; at most `CODES_MAX`."""
    ctx.require("pm.read")
    where = Where()
    where.add("code_group = {}", code_group)
    where.add("active = {}", active)
    rows = await fetch(
        f"select code_group, code, title, active from pm.failure_code where {where.sql} "
        f"order by code_group, code = '{UNKNOWN}', title, code limit {CODES_MAX}",
        *where.values,
    )
    return tuple(FailureCode(**row) for row in rows)


CODES_MAX: Final = 2_000


async def require_codes(codes: Mapping[str, str]) -> None:
    """Refuse codes, by group, that the catalogue does not have or no longer gives.

    Raises:
        InvalidPayload: naming each group whose code is wrong.
    """
    rows = await fetch(
        "select c.code_group from unnest($1::text[], $2::text[]) c (code_group, code) "
        "join pm.failure_code f on f.code_group = c.code_group and f.code = c.code and f.active",
        list(codes),
        list(codes.values()),
    )
    known = {row["code_group"] for row in rows}
    errors = [
        FieldError(field=group, message=f"{code} is not a code of the catalogue; GET /pm/failure-codes lists them")
        for group, code in codes.items()
        if group not in known
    ]
    if errors:
        raise InvalidPayload("A failure code is not in the catalogue.", errors=errors)


class CodeCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a code was given."""

    code: str
    title: str
    failures: int
    share: float
    """Of all failures, 0 to 1."""


class FailureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What failures of a period were coded with, the most frequent first; what is unknown is counted, not left out."""

    period_from: datetime = msgspec.field(name="from")
    period_to: datetime = msgspec.field(name="to")
    code_group: CodeGroup
    failures: int
    unknown: int
    unknown_share: float | None
    """Of all failures, 0 to 1; null when there was none."""
    codes: tuple[CodeCount, ...]


# A failure is an incident, or corrective work that mends no incident. What the incident leaves unknown may be known
# from the work that mended it; cancelled ones were none.
_COUNT: Final = """
with failure as (
    select i.site_id, i.started_at as at, a.asset_type, i.asset_id,
        coalesce(nullif(i.{group}, 'unknown'), (
            select o.{group} from pm.maintenance_order o
            where o.incident_id = i.incident_id and o.status <> 'cancelled' and o.{group} <> 'unknown'
            order by o.created_at limit 1), 'unknown') as code
    from pm.incident i join pm.asset a using (asset_id) join core.ticket t using (ticket_id)
    where t.status <> 'Cancelled'
    union all
    select o.site_id, o.created_at, a.asset_type, o.asset_id, o.{group}
    from pm.maintenance_order o join pm.asset a using (asset_id)
    where o.incident_id is null and o.order_type <> 'preventive' and o.status <> 'cancelled'
)
select f.code, coalesce(c.title, f.code) as title, count(*) as failures
from failure f left join pm.failure_code c on c.code_group = '{group}' and c.code = f.code
where {where} group by 1, 2 order by count(*) desc, f.code
"""


async def statistics(
    where: Where, *, code_group: CodeGroup, period_from: datetime, period_to: datetime
) -> FailureStatistics:
    """Count the failures that `where` lets pass of `site_id, asset_type, asset_id`, in `[period_from, period_to)`."""
    where.add("at >= {}", period_from)
    where.add("at < {}", period_to)
    rows = await fetch(_COUNT.format(group=code_group, where=where.sql), *where.values)
    total = sum(row["failures"] for row in rows)
    unknown = sum(row["failures"] for row in rows if row["code"] == UNKNOWN)
    return FailureStatistics(
        period_from=period_from,
        period_to=period_to,
        code_group=code_group,
        failures=total,
        unknown=unknown,
        unknown_share=unknown / total if total else None,
        codes=tuple(CodeCount(**row, share=row["failures"] / total) for row in rows),
    )
