"""Maintenance plans: when work on an asset is due, and the order that is opened then (SPEC R2.2, SAP PM)."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    Identifier,
    IfMatch,
    InvalidPayload,
    LongText,
    NotFound,
    RuleViolated,
    execute,
    fetchrow,
    fetchval,
    module_scope,
    module_site,
    record,
    transaction,
    uuid7,
)
from busbar_pm.events import CostType, OrderType
from busbar_pm.order_work import Checklist, Components, LabourPlan, check_work
from busbar_pm.plan_triggers import Calendar, IncidentTrigger, Meter, Trigger, first_due_from, trigger_errors

LEAD_DAYS_MAX: Final = 3_650


class OrderTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each order of a plan is opened with."""

    order_type: OrderType
    description: Annotated[LongText, msgspec.Meta(min_length=1)]
    checklist: Checklist = ()
    components: Components = ()
    labour: LabourPlan = ()
    cost_center_id: Identifier | None = None
    """By default the asset's."""
    cost_type: CostType = "OPEX"


class PlanFields(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a plan; of `asset_id` and `asset_type`, one."""

    name: str
    trigger: Trigger
    template: OrderTemplate
    asset_id: str | None = None
    asset_type: str | None = None
    """For incidents: those of any asset of the type at the site."""
    lead_days: int = 0
    """A calendar's order is opened so many days before it is due; others are scheduled for so many days later."""
    active: bool = True


async def create(ctx: Context, fields: PlanFields, *, site_id: str | None = None) -> UUID:
    """Add a plan; returns its id. `site_id` is of use with `asset_type`; else the site is the asset's.

    Raises:
        NotFound: there is no such asset or site for the actor.
        InvalidPayload: the trigger or the planned work cannot be meant so, or asset and type do not fit the trigger.
    """
    ctx.require("pm.write")
    _check(fields)
    plan_id = uuid7()
    state = start_of(fields.trigger, ctx.clock().date())
    async with transaction():
        site_id = await _site_of(ctx, fields, site_id)
        try:
            await execute(
                "insert into pm.maintenance_plan (plan_id, name, asset_id, asset_type, kind, trigger, template, "
                "lead_days, active, next_due, next_value, site_id, created_at, updated_at) "
                "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
                plan_id,
                fields.name,
                fields.asset_id,
                fields.asset_type,
                kind_of(fields.trigger),
                as_json(fields.trigger),
                as_json(fields.template),
                fields.lead_days,
                fields.active,
                state.next_due,
                state.next_value,
                site_id,
                ctx.clock(),
            )
        except asyncpg.ForeignKeyViolationError:
            error = FieldError(field="asset_type", message="is not a known type of asset")
            raise InvalidPayload("The type of asset is not known.", errors=[error]) from None
        await note_plan(ctx, plan_id, site_id, "plan.create", msgspec.to_builtins(fields))
    return plan_id


class PlanState(msgspec.Struct, frozen=True, kw_only=True):
    """From when on a plan is due; what does not belong to its kind is None."""

    next_due: date | None = None
    next_value: Decimal | None = None


def start_of(trigger: Trigger, today: date, *, again: bool = False) -> PlanState:
    """The state a plan begins with; `again`, after it was not active, what was due meanwhile is left out."""
    match trigger:
        case Calendar():
            return PlanState(next_due=first_due_from(trigger, today) if again else trigger.first_due)
        case Meter():
            return PlanState(next_value=trigger.start + trigger.every)
    return PlanState()


async def change(ctx: Context, plan_id: UUID, changes: Mapping[str, Any], *, expected: IfMatch = ANY_VERSION) -> int:
    """Change `name`, `trigger`, `template` or `lead_days` of a plan; returns its new version.

    A new trigger begins anew: the calendar at its first due date, the meter at its start; orders that were called for
    stay. The kind of trigger stays as it is.

    Raises:
        NotFound: there is no such plan at the actor's sites.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: as with `create`, or the trigger is of another kind.
    """
    async with transaction():
        plan = await lock(ctx, plan_id, expected)
        if not changes:
            return int(plan["version"])
        trigger, template = trigger_of(plan), template_of(plan)
        fields = PlanFields(
            name=changes.get("name", plan["name"]),
            trigger=changes.get("trigger", trigger),
            template=changes.get("template", template),
            asset_id=plan["asset_id"],
            asset_type=plan["asset_type"],
            lead_days=changes.get("lead_days", plan["lead_days"]),
        )
        _check(fields, kind=plan["kind"])
        state = PlanState(next_due=plan["next_due"], next_value=plan["next_value"])
        if fields.trigger != trigger:
            state = start_of(fields.trigger, ctx.clock().date())
        await execute(
            "update pm.maintenance_plan set name = $2, trigger = $3, template = $4, lead_days = $5, next_due = $6, "
            "next_value = $7, armed = armed or $8, updated_at = $9, version = version + 1 where plan_id = $1",
            plan_id,
            fields.name,
            as_json(fields.trigger),
            as_json(fields.template),
            fields.lead_days,
            state.next_due,
            state.next_value,
            fields.trigger != trigger,
            ctx.clock(),
        )
        await note_plan(ctx, plan_id, plan["site_id"], "plan.change", msgspec.to_builtins(dict(changes)))
    return int(plan["version"]) + 1


async def set_active(ctx: Context, plan_id: UUID, *, active: bool, expected: IfMatch = ANY_VERSION) -> int:
    """Let a plan call for orders, or not; returns its new version. What was due while it rested is not made up for.

    A meter goes on from the latest reading: the next due one lies beyond it.

    Raises:
        NotFound, StaleVersion: as with `change`.
    """
    async with transaction():
        plan = await lock(ctx, plan_id, expected)
        if plan["active"] == active:
            return int(plan["version"])
        state = PlanState(next_due=plan["next_due"], next_value=plan["next_value"])
        if active:
            state = await _resumed(plan, ctx.clock().date())
        await execute(
            "update pm.maintenance_plan set active = $2, next_due = $3, next_value = $4, armed = true, "
            "updated_at = $5, version = version + 1 where plan_id = $1",
            plan_id,
            active,
            state.next_due,
            state.next_value,
            ctx.clock(),
        )
        await note_plan(ctx, plan_id, plan["site_id"], "plan.activate" if active else "plan.deactivate", {})
    return int(plan["version"]) + 1


async def _resumed(plan: asyncpg.Record, today: date) -> PlanState:
    trigger = trigger_of(plan)
    if not isinstance(trigger, Meter):
        return start_of(trigger, today, again=True)
    latest = await fetchval(
        "select value from pm.measurement where asset_id = $1 and name = $2 "
        "order by taken_at desc, measurement_id desc limit 1",
        plan["asset_id"],
        trigger.measurement,
    )
    following: Decimal = plan["next_value"]
    if latest is not None and latest + trigger.ahead >= following:
        following += ((latest + trigger.ahead - following) // trigger.every + 1) * trigger.every
    return PlanState(next_value=following)


async def remove(ctx: Context, plan_id: UUID, *, expected: IfMatch = ANY_VERSION) -> None:
    """Delete a plan that never called for an order; another one is deactivated instead.

    Raises:
        NotFound, StaleVersion: as with `change`.
        RuleViolated: it has calls.
    """
    async with transaction():
        plan = await lock(ctx, plan_id, expected)
        if plan["calls"]:
            raise RuleViolated(f"The plan has called for {plan['calls']} orders; deactivate it instead.")
        await execute("delete from pm.maintenance_plan where plan_id = $1", plan_id)
        await note_plan(ctx, plan_id, plan["site_id"], "plan.delete", {"name": plan["name"]})


async def lock(ctx: Context, plan_id: UUID, expected: IfMatch) -> asyncpg.Record:
    """The plan's row, locked for the transaction.

    Raises:
        NotFound, StaleVersion: as with `change`.
    """
    ctx.require("pm.write")
    row = await fetchrow(
        "select * from pm.maintenance_plan where plan_id = $1 and site_id = any($2) for update",
        plan_id,
        await module_scope(ctx, "pm"),
    )
    if row is None:
        raise NotFound(f"There is no maintenance plan {plan_id}.")
    expected.require(row["version"])
    return row


def trigger_of(plan: Mapping[str, Any]) -> Trigger:
    """The trigger of a plan's row."""
    return msgspec.json.decode(plan["trigger"], type=Trigger)


def template_of(plan: Mapping[str, Any]) -> OrderTemplate:
    """The template of a plan's row."""
    return msgspec.json.decode(plan["template"], type=OrderTemplate)


def kind_of(trigger: Trigger) -> str:
    """The trigger's kind, as the API and the database name it."""
    return str(trigger.__struct_config__.tag)


def as_json(part: msgspec.Struct) -> str:
    """A trigger or template as the database keeps it; decimals are texts in it."""
    return msgspec.json.encode(part).decode()


def _check(fields: PlanFields, *, kind: str | None = None) -> None:
    errors = list(trigger_errors(fields.trigger))
    if kind is not None and kind_of(fields.trigger) != kind:
        errors.append(FieldError(field="trigger.kind", message=f"Stays {kind}; make another plan for another kind."))
    if (fields.asset_id is None) == (fields.asset_type is None):
        errors.append(FieldError(field="asset_id", message="Give one of asset_id and asset_type."))
    elif fields.asset_type is not None and not isinstance(fields.trigger, IncidentTrigger):
        errors.append(FieldError(field="asset_type", message="Only incidents can be awaited of a type; give asset_id."))
    if errors:
        raise InvalidPayload("The plan cannot be meant so.", errors=errors)
    check_work(labour=fields.template.labour, components=fields.template.components)


async def _site_of(ctx: Context, fields: PlanFields, site_id: str | None) -> str:
    if fields.asset_id is None:
        return await module_site(ctx, "pm", site_id, thing="plan")
    found = await fetchval(
        "select site_id from pm.asset where asset_id = $1 and site_id = any($2)",
        fields.asset_id,
        await module_scope(ctx, "pm", site_id),
    )
    if found is None:
        raise NotFound(f"There is no asset {fields.asset_id}.")
    return str(found)


async def note_plan(ctx: Context, plan_id: UUID, site_id: str, action: str, details: Mapping[str, Any]) -> None:
    """Write in the trail what was done to a plan."""
    await record(
        ctx, action=action, object_kind="maintenance_plan", object_id=str(plan_id), site_id=site_id, details=details
    )
