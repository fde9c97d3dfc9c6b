"""Cost centers: where costs are gathered, with hierarchy, and a budget for each fiscal year (SPEC R4.1)."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Conflict,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetch,
    fetchrow,
    module_scope,
    record,
    transaction,
)
from busbar_fi import budgets
from busbar_fi.events import OverBudget

DEPTH_MAX: Final = 20
"""Levels of the hierarchy; deeper ones are refused, so that walking it ends."""


class NewCostCenter(msgspec.Struct, frozen=True, kw_only=True):
    """A cost center to be added, with the budget of its first fiscal year."""

    cost_center_id: str
    name: str
    budget_amount: Decimal
    fiscal_year: int
    responsible_manager: str
    parent_id: str | None = None
    fiscal_year_start_month: int | None = None
    """1 to 12; by default the parent's, or January."""
    currency: str | None = None
    """By default the parent's, or EUR."""
    over_budget: OverBudget = "warn"
    is_default: bool = False


_INSERT: Final = """
insert into fi.cost_center (cost_center_id, name, parent_id, responsible_manager, fiscal_year, fiscal_year_start_month,
    currency, over_budget, is_default, site_id, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
"""
_SET_BUDGET: Final = """
insert into fi.budget_year as y (cost_center_id, fiscal_year, budget_amount) values ($1, $2, $3)
on conflict (cost_center_id, fiscal_year) do update set budget_amount = excluded.budget_amount
where y.budget_amount is distinct from excluded.budget_amount
returning fiscal_year
"""


async def create(ctx: Context, new: NewCostCenter, *, site_id: str) -> str:
    """Add a cost center; returns its id.

    Raises:
        NotFound: the site is not the actor's, or lacks finance.
        Conflict: the id is taken.
        InvalidPayload: the parent does not exist at the site, lies too deep, or has another currency or fiscal year.
    """
    ctx.require("fi.write")
    await module_scope(ctx, "fi", site_id)
    async with transaction():
        await lock_hierarchy(site_id)
        parent = await _parent(new.cost_center_id, site_id, new.parent_id)
        currency, start_month = _as_parent(new, parent)
        await budgets.lock([*([new.parent_id] if new.parent_id else []), *await _default_of(site_id, new.is_default)])
        if new.is_default:
            await _give_up_default(ctx, site_id, new.cost_center_id)
        try:
            async with transaction():
                await execute(
                    _INSERT,
                    new.cost_center_id,
                    new.name,
                    new.parent_id,
                    new.responsible_manager,
                    new.fiscal_year,
                    start_month,
                    currency,
                    new.over_budget,
                    new.is_default,
                    site_id,
                    ctx.clock(),
                )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a cost center {new.cost_center_id} already.") from None
        await execute(_SET_BUDGET, new.cost_center_id, new.fiscal_year, new.budget_amount)
        await _note(
            ctx, "create", new.cost_center_id, site_id, {"budget": new.budget_amount, "fiscal_year": new.fiscal_year}
        )
    return new.cost_center_id


async def change(ctx: Context, cost_center_id: str, changes: dict[str, Any], *, expected: IfMatch = ANY_VERSION) -> int:
    """Change some fields of a cost center; returns its new version.

    `budget_amount` is that of the fiscal year it shows, the new one if that changes too.

    Raises:
        NotFound: there is no such cost center at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: the parent cannot be used, or the new fiscal year has no budget and none is given.
    """
    async with transaction():
        also = [changes["parent_id"]] if changes.get("parent_id") else []
        if "parent_id" in changes or changes.get("is_default"):
            site_id = (await find(ctx, cost_center_id))["site_id"]
            await lock_hierarchy(site_id)
            also += await _default_of(site_id, changes.get("is_default", False))
        old = await lock(ctx, cost_center_id, expected=expected, also=also)
        if not changes:
            return int(old["version"])
        site_id = old["site_id"]
        if "parent_id" in changes:
            parent = await _parent(cost_center_id, site_id, changes["parent_id"])
            _check_same(old["currency"], old["fiscal_year_start_month"], parent)
        if changes.get("is_default"):
            await _give_up_default(ctx, site_id, cost_center_id)
        year = changes.get("fiscal_year", old["fiscal_year"])
        await _set_shown_budget(cost_center_id, year, changes.get("budget_amount"))
        columns = {name: value for name, value in changes.items() if name != "budget_amount"}
        sets = [f"{name} = ${n}" for n, name in enumerate(columns, start=3)]
        await execute(
            f"update fi.cost_center set {', '.join([*sets, 'updated_at = $2', 'version = version + 1'])} "
            "where cost_center_id = $1",
            cost_center_id,
            ctx.clock(),
            *columns.values(),
        )
        await budgets.review(ctx, old, year)
        await _note(ctx, "change", cost_center_id, site_id, changes)
    return int(old["version"]) + 1


async def set_budget(
    ctx: Context, cost_center_id: str, fiscal_year: int, amount: Decimal, *, expected: IfMatch = ANY_VERSION
) -> int:
    """Set a cost center's budget of a fiscal year; returns the cost center's version, new if the budget is.

    Raises:
        NotFound, StaleVersion: as with `change`.
    """
    async with transaction():
        cost_center = await lock(ctx, cost_center_id, expected=expected)
        if not await fetch(_SET_BUDGET, cost_center_id, fiscal_year, amount):
            return int(cost_center["version"])
        await execute(
            "update fi.cost_center set version = version + 1, updated_at = $2 where cost_center_id = $1",
            cost_center_id,
            ctx.clock(),
        )
        await budgets.review(ctx, cost_center, fiscal_year)
        details = {"fiscal_year": fiscal_year, "budget_amount": amount}
        await _note(ctx, "budget", cost_center_id, cost_center["site_id"], details)
    return int(cost_center["version"]) + 1


async def remove(ctx: Context, cost_center_id: str, *, expected: IfMatch = ANY_VERSION) -> None:
    """Delete a cost center that nothing refers to; one with costs, requests or others below it is closed instead.

    Raises:
        NotFound, StaleVersion: as with `change`.
        RuleViolated: something refers to it.
    """
    async with transaction():
        cost_center = await lock(ctx, cost_center_id, expected=expected)
        try:
            async with transaction():
                await execute(
                    "delete from fi.budget_year where cost_center_id = $1 and actual_amount = 0 "
                    "and committed_amount = 0",
                    cost_center_id,
                )
                await execute("delete from fi.cost_center where cost_center_id = $1", cost_center_id)
        except asyncpg.ForeignKeyViolationError:
            raise RuleViolated(
                f"The cost center {cost_center_id} has costs, commitments, requests or cost centers below it; set its "
                "status to closed."
            ) from None
        await _note(ctx, "delete", cost_center_id, cost_center["site_id"], {})


async def lock(
    ctx: Context, cost_center_id: str, *, expected: IfMatch = ANY_VERSION, also: Sequence[str] = ()
) -> asyncpg.Record:
    """The cost center's row, locked for the transaction together with the budgets above it, and above `also`.

    Raises:
        NotFound: there is no such cost center at the actor's sites.
        StaleVersion: it is not at the expected version.
    """
    ctx.require("fi.write")
    await budgets.lock([cost_center_id, *also])
    row = await find(ctx, cost_center_id)
    expected.require(row["version"])
    return row


async def find(ctx: Context, cost_center_id: str, *, site_id: str | None = None) -> asyncpg.Record:
    """The cost center's row.

    Raises:
        NotFound: there is no such cost center at the actor's sites, or at the given one.
    """
    row = await fetchrow(
        "select * from fi.cost_center where cost_center_id = $1 and site_id = any($2)",
        cost_center_id,
        await module_scope(ctx, "fi", site_id),
    )
    if row is None:
        raise NotFound(f"There is no cost center {cost_center_id}{f' at the site {site_id}' if site_id else ''}.")
    return row


def require_active(cost_center: asyncpg.Record) -> None:
    """Refuse a cost center that is closed.

    Raises:
        RuleViolated: saying so.
    """
    if cost_center["status"] != "active":
        raise RuleViolated(f"The cost center {cost_center['cost_center_id']} is closed; use another, or open it again.")


async def lock_hierarchy(site_id: str) -> None:
    """Let moves in the hierarchy of a site take turns, or two of them could close a circle together."""
    await execute("select pg_advisory_xact_lock(hashtextextended('fi.cost_center hierarchy ' || $1, 0))", site_id)


_ABOVE: Final = """
with recursive above as (
    select cost_center_id, parent_id, 1 as depth from fi.cost_center where cost_center_id = $1
    union all
    select p.cost_center_id, p.parent_id, above.depth + 1
    from fi.cost_center p join above on p.cost_center_id = above.parent_id where above.depth <= $2
)
select c.cost_center_id, c.site_id, c.currency, c.fiscal_year_start_month, above.depth
from above join fi.cost_center c using (cost_center_id) order by above.depth
"""
_DEPTH_BELOW: Final = """
with recursive below as (
    select cost_center_id, 1 as depth from fi.cost_center where cost_center_id = $1
    union all
    select c.cost_center_id, below.depth + 1 from fi.cost_center c join below on c.parent_id = below.cost_center_id
    where below.depth <= $2
)
select coalesce(max(depth), 1) as depth from below
"""


async def _parent(cost_center_id: str, site_id: str, parent_id: str | None) -> asyncpg.Record | None:
    if parent_id is None:
        return None
    above = await fetch(_ABOVE, parent_id, DEPTH_MAX)
    below = await fetchrow(_DEPTH_BELOW, cost_center_id, DEPTH_MAX)
    message = None
    if not above or above[0]["site_id"] != site_id:
        message = "does not exist at this site"
    elif any(row["cost_center_id"] == cost_center_id for row in above):
        message = "is the cost center itself or lies below it"
    elif len(above) + (below["depth"] if below else 1) > DEPTH_MAX:
        message = f"would make the hierarchy deeper than {DEPTH_MAX} levels"
    if message is not None:
        raise _refused("parent_id", message)
    return above[0]


def _as_parent(new: NewCostCenter, parent: asyncpg.Record | None) -> tuple[str, int]:
    currency = new.currency or (parent["currency"] if parent else "EUR")
    start_month = new.fiscal_year_start_month or (parent["fiscal_year_start_month"] if parent else 1)
    _check_same(currency, start_month, parent)
    return currency, start_month


def _check_same(currency: str, start_month: int, parent: asyncpg.Record | None) -> None:
    """Budgets roll up, so those below each other count the same money over the same months."""
    if parent is None:
        return
    if currency != parent["currency"]:
        raise _refused("currency", f"must be the parent's, {parent['currency']}")
    if start_month != parent["fiscal_year_start_month"]:
        raise _refused("fiscal_year_start_month", f"must be the parent's, {parent['fiscal_year_start_month']}")


def _refused(field: str, message: str) -> InvalidPayload:
    return InvalidPayload(f"{field} {message}.", errors=[FieldError(field=field, message=message)])


async def _set_shown_budget(cost_center_id: str, fiscal_year: int, amount: Decimal | None) -> None:
    if amount is not None:
        await execute(_SET_BUDGET, cost_center_id, fiscal_year, amount)
        return
    known = await fetchrow(
        "select budget_amount from fi.budget_year where cost_center_id = $1 and fiscal_year = $2 "
        "and budget_amount is not null",
        cost_center_id,
        fiscal_year,
    )
    if known is None:
        raise _refused("budget_amount", f"is needed, for there is no budget for {fiscal_year} yet")


async def _default_of(site_id: str, asked: bool) -> list[str]:
    rows = await fetch("select cost_center_id from fi.cost_center where site_id = $1 and is_default", site_id)
    return [row["cost_center_id"] for row in rows] if asked else []


async def _give_up_default(ctx: Context, site_id: str, heir: str) -> None:
    """A site has one default cost center; the one before is an ordinary one from now on."""
    await execute(
        "update fi.cost_center set is_default = false, version = version + 1, updated_at = $2 "
        "where site_id = $1 and is_default and cost_center_id <> $3",
        site_id,
        ctx.clock(),
        heir,
    )


async def _note(ctx: Context, verb: str, cost_center_id: str, site_id: str, details: dict[str, Any]) -> None:
    await record(
        ctx,
        action=f"cost_center.{verb}",
        object_kind="cost_center",
        object_id=cost_center_id,
        site_id=site_id,
        details={name: msgspec.to_builtins(value) for name, value in details.items()},
    )
