"""The end of an order: what its work cost, and the asset's history (SPEC R2.5)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    Money,
    NotFound,
    PositiveMoney,
    PositiveQuantity,
    RuleViolated,
    ShortText,
    advance_to,
    execute,
    fetch,
    fetchval,
    publish,
    transaction,
    uuid7,
)
from busbar_pm import order_work
from busbar_pm.events import CostKind, OrderCompleted, OrderCost
from busbar_pm.failure_codes import CODE_GROUPS
from busbar_pm.order_work import AMOUNT_MAX, labour_cost, labour_errors
from busbar_pm.orders import check_codes, facts_of, lock_planned, note_order

ENTRIES_MAX: Final = 1_000
"""Lines of cost that one order may have."""


class LabourEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours that somebody worked, and what one of them costs."""

    description: ShortText
    hours: PositiveQuantity
    hourly_rate: Money


class CostEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bill: of an outside firm, or for material that was bought for the order and was never in stock."""

    description: ShortText
    amount: PositiveMoney
    kind: Literal["external", "material"] = "external"


class Actuals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the work took. Material issued from stock is not named here: materials management tells of it."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "labour": [{"description": "Jointer", "hours": "3.5", "hourly_rate": "68.00"}],
        "costs": [{"description": "Excavation", "amount": "480.00"}],
    }

    labour: Annotated[tuple[LabourEntry, ...], msgspec.Meta(max_length=100)] = ()
    costs: Annotated[tuple[CostEntry, ...], msgspec.Meta(max_length=100)] = ()


async def add_actuals(ctx: Context, order_id: UUID, actuals: Actuals, *, expected: IfMatch = ANY_VERSION) -> int:
    """Note what the work on a planned order took; returns the order's new version.

    Raises:
        NotFound, StaleVersion: as with assets.
        RuleViolated: the order is completed or cancelled already, or has `ENTRIES_MAX` entries.
        InvalidPayload: an amount is beyond `AMOUNT_MAX`, or hours beyond what an order may take.
    """
    async with transaction():
        order = await lock_planned(ctx, order_id, expected)
        await _insert(ctx, order_id, actuals)
        await _touch(ctx, order_id)
        await note_order(ctx, order, "order.actuals", {"labour": actuals.labour, "costs": actuals.costs})
    return int(order["version"]) + 1


async def remove_actual(ctx: Context, order_id: UUID, entry_id: UUID, *, expected: IfMatch = ANY_VERSION) -> int:
    """Take back a line of cost that was noted by mistake; returns the order's new version.

    Raises:
        NotFound: there is no such order at the actor's sites, or no such entry.
        StaleVersion: somebody else changed it meanwhile.
        RuleViolated: the order is completed or cancelled already.
    """
    async with transaction():
        order = await lock_planned(ctx, order_id, expected)
        removed = await fetch(
            "delete from pm.order_actual where order_id = $1 and entry_id = $2 returning kind, description, amount",
            order_id,
            entry_id,
        )
        if not removed:
            raise NotFound(f"The order has no entry {entry_id}.")
        await _touch(ctx, order_id)
        await note_order(ctx, order, "order.actual_removed", {"entry_id": entry_id, **removed[0]})
    return int(order["version"]) + 1


async def complete(
    ctx: Context,
    order_id: UUID,
    *,
    notes: str,
    actuals: Actuals | None = None,
    codes: Mapping[str, str] | None = None,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """The work is done: closes the ticket, writes the asset's history, tells it; returns the order's new version.

    `actuals` are added to those noted before; `codes` say what had failed, by group.

    Raises:
        NotFound, StaleVersion: as with assets.
        RuleViolated: the order is completed or cancelled already, a mandatory item of its checklist is open, or it is
            preventive and `codes` are given.
        InvalidPayload: as with `add_actuals`, or a code is not in the catalogue.
    """
    codes = dict(codes or {})
    async with transaction():
        order = dict(await lock_planned(ctx, order_id, expected)) | codes
        await order_work.refuse_open_items(order_id)
        await check_codes(order, codes)
        if actuals is not None:
            await _insert(ctx, order_id, actuals)
        now = ctx.clock()
        await execute(
            "update pm.maintenance_order set status = 'completed', completed_at = $2, completion_notes = $3, "
            f"{', '.join(f'{group} = ${n}' for n, group in enumerate(CODE_GROUPS, start=4))}, "
            "updated_at = $2, version = version + 1 where order_id = $1",
            order_id,
            now,
            notes,
            *(order[group] for group in CODE_GROUPS),
        )
        told = await _completed(ctx, order, notes)
        await _write_history(ctx, order, told)
        await note_order(ctx, order, "order.complete", {"notes": notes, "total_cost": told.total_cost, **codes})
        await publish(
            ctx, "PM_ORDER_COMPLETED", subject=order["ticket_id"], site_id=order["site_id"], time=now, data=told
        )
        await advance_to(ctx, order["ticket_id"], target="Closed", comment=notes)
    return int(order["version"]) + 1


async def _completed(ctx: Context, order: Mapping[str, Any], notes: str) -> OrderCompleted:
    rows = await fetch(
        "select kind, description, amount, hours from pm.order_actual where order_id = $1 order by id",
        order["order_id"],
    )
    return OrderCompleted(
        ticket_id=order["ticket_id"],
        notes=notes,
        completed_at=ctx.clock(),
        completed_by=ctx.actor.username,
        order=await facts_of(order),
        costs=tuple(OrderCost(kind=r["kind"], description=r["description"], amount=r["amount"]) for r in rows),
        total_cost=sum((row["amount"] for row in rows), Decimal(0)),
        labour_hours=sum((row["hours"] for row in rows if row["hours"] is not None), Decimal(0)),
        **{group: order[group] for group in CODE_GROUPS},
    )


async def _write_history(ctx: Context, order: Mapping[str, Any], told: OrderCompleted) -> None:
    """The history has the whole cost: what the order's event tells, and what came from stock so far."""
    issued = await fetchval("select coalesce(sum(value), 0) from pm.order_issue where order_id = $1", order["order_id"])
    await execute(
        "insert into pm.asset_history (asset_id, at, kind, ticket_id, object_id, summary, recorded_by, cost, "
        "labour_hours) values ($1, $2, 'maintenance', $3, $4, $5, $6, $7, $8)",
        order["asset_id"],
        told.completed_at,
        order["ticket_id"],
        str(order["order_id"]),
        f"{order['order_type']}: {told.notes}",
        ctx.actor.username,
        told.total_cost + issued,
        told.labour_hours,
    )


async def _insert(ctx: Context, order_id: UUID, actuals: Actuals) -> None:
    _check(actuals)
    lines: list[tuple[CostKind, str, Decimal | None, Decimal | None, Decimal]] = [
        ("labour", line.description, line.hours, line.hourly_rate, labour_cost(line.hours, line.hourly_rate))
        for line in actuals.labour
    ]
    lines += [(cost.kind, cost.description, None, None, cost.amount) for cost in actuals.costs]
    if not lines:
        return
    there = await fetchval("select count(*) from pm.order_actual where order_id = $1", order_id)
    if there + len(lines) > ENTRIES_MAX:
        raise RuleViolated(f"An order has at most {ENTRIES_MAX} lines of cost; this one has {there} already.")
    await execute(
        "insert into pm.order_actual (order_id, recorded_at, recorded_by, entry_id, kind, description, hours, "
        "hourly_rate, amount) select $1, $2, $3, * from unnest($4::uuid[], $5::text[], $6::text[], $7::numeric[], "
        "$8::numeric[], $9::numeric[])",
        order_id,
        ctx.clock(),
        ctx.actor.username,
        [uuid7() for _ in lines],
        *(list(column) for column in zip(*lines, strict=True)),
    )


def _check(actuals: Actuals) -> None:
    errors = [
        error
        for n, line in enumerate(actuals.labour)
        for error in labour_errors(line.hours, line.hourly_rate, f"labour[{n}]")
    ]
    errors += [
        FieldError(field=f"costs[{n}].amount", message=f"is more than {AMOUNT_MAX}")
        for n, cost in enumerate(actuals.costs)
        if cost.amount > AMOUNT_MAX
    ]
    if errors:
        raise InvalidPayload("The work cannot have taken that much.", errors=errors)


async def _touch(ctx: Context, order_id: UUID) -> None:
    await execute(
        "update pm.maintenance_order set updated_at = $2, version = version + 1 where order_id = $1",
        order_id,
        ctx.clock(),
    )
