"""What an order is planned to take: a checklist, hours of labour, and material from stock."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    FieldError,
    Identifier,
    InvalidPayload,
    Money,
    NotFound,
    PositiveQuantity,
    RuleViolated,
    ShortText,
    execute,
    fetch,
    fetchrow,
    fetchval,
)
from busbar_pm.events import OrderComponent

ITEMS_MAX: Final = 100
"""Lines of a checklist, of planned labour, of planned material."""
HOURS_MAX: Final = Decimal(10_000)
AMOUNT_MAX: Final = Decimal(1_000_000_000)
"""Of one line of cost; so the sum of an order's lines fits what the database keeps."""
_CENT: Final = Decimal("0.01")


class ChecklistItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to be done or looked at; the order cannot be completed while a mandatory one is open."""

    text: Annotated[ShortText, msgspec.Meta(min_length=1)]
    mandatory: bool = True


class PlannedLabour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many hours of some kind of work, and what one of them costs."""

    description: ShortText
    hours: PositiveQuantity
    hourly_rate: Money


class PlannedComponent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So much of a material, in its unit of measure."""

    material_id: Identifier
    quantity: PositiveQuantity


Checklist = Annotated[tuple[ChecklistItem, ...], msgspec.Meta(max_length=ITEMS_MAX)]
LabourPlan = Annotated[tuple[PlannedLabour, ...], msgspec.Meta(max_length=ITEMS_MAX)]
Components = Annotated[tuple[PlannedComponent, ...], msgspec.Meta(max_length=ITEMS_MAX)]


def labour_cost(hours: Decimal, hourly_rate: Decimal) -> Decimal:
    """What hours of work cost: hours x rate, rounded half up to two decimals, as an invoice is."""
    return (hours * hourly_rate).quantize(_CENT, ROUND_HALF_UP)


def check_work(*, labour: Sequence[PlannedLabour] = (), components: Sequence[PlannedComponent] = ()) -> None:
    """Refuse planned work that cannot be meant.

    Raises:
        InvalidPayload: a line of labour is beyond `HOURS_MAX` or `AMOUNT_MAX`, or a material is named twice.
    """
    errors = [
        error for n, line in enumerate(labour) for error in labour_errors(line.hours, line.hourly_rate, f"labour[{n}]")
    ]
    seen: set[str] = set()
    for n, component in enumerate(components):
        if component.material_id in seen:
            message = f"{component.material_id} is named before; add the quantities up"
            errors.append(FieldError(field=f"components[{n}].material_id", message=message))
        seen.add(component.material_id)
    if errors:
        raise InvalidPayload("The planned work cannot be meant so.", errors=errors)


def labour_errors(hours: Decimal, hourly_rate: Decimal, field: str) -> list[FieldError]:
    """What is wrong with one line of labour; empty when nothing is."""
    if hours > HOURS_MAX:
        return [FieldError(field=f"{field}.hours", message=f"is more than {HOURS_MAX} hours")]
    if labour_cost(hours, hourly_rate) > AMOUNT_MAX:
        return [FieldError(field=f"{field}.hourly_rate", message=f"makes a cost of more than {AMOUNT_MAX}")]
    return []


# Written by the statement that opens an order, over `opened`, and by the one that replaces a list, over `given`.
INSERT_CHECKLIST: Final = """
insert into pm.order_checklist_item (order_id, position, text, mandatory)
select order_id, place, item ->> 'text', (item ->> 'mandatory')::boolean
from {source}, jsonb_array_elements(checklist) with ordinality as c (item, place)"""
INSERT_LABOUR: Final = """
insert into pm.order_planned_labour (order_id, position, description, hours, hourly_rate)
select order_id, place, item ->> 'description', (item ->> 'hours')::numeric, (item ->> 'hourly_rate')::numeric
from {source}, jsonb_array_elements(labour) with ordinality as l (item, place)"""
INSERT_COMPONENTS: Final = """
insert into pm.order_component (order_id, material_id, quantity)
select order_id, item ->> 'material_id', (item ->> 'quantity')::numeric
from {source}, jsonb_array_elements(components) as c (item)"""

_LISTS: Final = {
    "checklist": ("pm.order_checklist_item", INSERT_CHECKLIST),
    "labour": ("pm.order_planned_labour", INSERT_LABOUR),
    "components": ("pm.order_component", INSERT_COMPONENTS),
}


def as_json(items: Sequence[msgspec.Struct]) -> str:
    """A list as the statements above read it; decimals travel as text, digit by digit."""
    return msgspec.json.encode([msgspec.to_builtins(item) for item in items]).decode()


async def replace_lists(order_id: UUID, changes: Mapping[str, Any]) -> None:
    """Put the lists that are in `changes` in place of those that the order has; call it with the order locked.

    Raises:
        InvalidPayload: as with `check_work`.
        RuleViolated: the checklist is to be replaced, and an item of it is ticked.
    """
    check_work(labour=changes.get("labour", ()), components=changes.get("components", ()))
    if "checklist" in changes:
        ticked = "select count(*) from pm.order_checklist_item where order_id = $1 and done_at is not null"
        if await fetchval(ticked, order_id):
            raise RuleViolated("Items of the checklist are ticked already; untick them before it is replaced.")
    for name, (table, insert) in _LISTS.items():
        if name in changes:
            await execute(f"delete from {table} where order_id = $1", order_id)
            given = f"with given as (select $1::uuid as order_id, $2::jsonb as {name})"
            await execute(given + insert.format(source="given"), order_id, as_json(changes[name]))


async def components_of(order_id: UUID) -> tuple[OrderComponent, ...]:
    """The material that the order is planned to take, as its events tell it."""
    rows = await fetch(
        "select material_id, quantity from pm.order_component where order_id = $1 order by material_id", order_id
    )
    return tuple(OrderComponent(**row) for row in rows)


async def planned_cost_of(order_id: UUID) -> Decimal:
    """What the planned labour costs."""
    rows = await fetch("select hours, hourly_rate from pm.order_planned_labour where order_id = $1", order_id)
    return sum((labour_cost(row["hours"], row["hourly_rate"]) for row in rows), Decimal(0))


async def tick(ctx: Context, order_id: UUID, position: int, *, done: bool, note: str | None) -> None:
    """Tick an item of the checklist, or take the tick away; call it with the order locked.

    Raises:
        NotFound: the checklist has no such position.
    """
    row = await fetchrow(
        "update pm.order_checklist_item set done_at = $3, done_by = $4, note = $5 "
        "where order_id = $1 and position = $2 returning position",
        order_id,
        position,
        ctx.clock() if done else None,
        ctx.actor.username if done else None,
        note,
    )
    if row is None:
        raise NotFound(f"The checklist has no item {position}.")


async def refuse_open_items(order_id: UUID) -> None:
    """Refuse to complete an order while a mandatory item of its checklist is open.

    Raises:
        RuleViolated: naming the first of them.
    """
    rows = await fetch(
        "select position, text from pm.order_checklist_item "
        "where order_id = $1 and mandatory and done_at is null order by position",
        order_id,
    )
    if rows:
        first = "; ".join(f"{row['position']}. {row['text']}" for row in rows[:3])
        raise RuleViolated(f"{len(rows)} mandatory items of the checklist are open: {first}.")
