"""Delegations: for a time, one person decides approval requests for another."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from busbar.sdk import (
    Context,
    FieldError,
    InvalidPayload,
    NotFound,
    RuleViolated,
    execute,
    fetch,
    fetchrow,
    record,
    require_people,
    transaction,
    uuid7,
)

PERIOD_MAX: Final = timedelta(days=366)
LISTED_MAX: Final = 200


class DelegationView(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides for whom, and when."""

    delegation_id: UUID
    delegator: str
    delegate: str
    valid_from: datetime
    valid_until: datetime
    """The first moment at which it does not hold any more."""
    reason: str
    revoked_at: datetime | None
    created_at: datetime


_COLUMNS: Final = ", ".join(DelegationView.__struct_fields__)


async def delegate(
    ctx: Context, *, delegate: str, valid_from: datetime | None, valid_until: datetime, reason: str
) -> DelegationView:
    """Let somebody decide for the actor; nobody can do that for another person.

    Raises:
        InvalidPayload: the delegate is unknown or the actor, or the period is empty, over, or longer than a year.
    """
    ctx.require("fi.approve")
    now, delegator = ctx.clock(), ctx.actor.username
    begin = valid_from or now
    problem = None
    if delegate == delegator:
        problem = FieldError(field="delegate", message="is yourself")
    elif valid_until <= max(begin, now):
        problem = FieldError(field="valid_until", message="lies before the beginning, or in the past")
    elif valid_until - begin > PERIOD_MAX:
        problem = FieldError(field="valid_until", message=f"lies more than {PERIOD_MAX.days} days after the beginning")
    if problem is not None:
        raise InvalidPayload(f"{problem.field} {problem.message}.", errors=[problem])
    await require_people([delegate], field="delegate")
    if delegate.startswith("role:"):
        problem = FieldError(field="delegate", message="must be one person")
        raise InvalidPayload("A delegation goes to one person.", errors=[problem])
    delegation_id = uuid7()
    async with transaction():
        await execute(
            "insert into fi.delegation (delegation_id, delegator, delegate, valid_from, valid_until, reason, "
            "created_by, created_at) values ($1, $2, $3, $4, $5, $6, $2, $7)",
            delegation_id,
            delegator,
            delegate,
            begin,
            valid_until,
            reason,
            now,
        )
        await _note(ctx, "create", delegation_id, {"delegate": delegate, "from": begin, "until": valid_until})
    return await _get(delegation_id)


async def revoke(ctx: Context, delegation_id: UUID) -> None:
    """End a delegation now; by who gave it, or who has it.

    Raises:
        NotFound: there is no such delegation of or to the actor.
        RuleViolated: it is revoked already.
    """
    ctx.require("fi.approve")
    async with transaction():
        row = await fetchrow(
            "select * from fi.delegation where delegation_id = $1 and $2 in (delegator, delegate) for update",
            delegation_id,
            ctx.actor.username,
        )
        if row is None:
            raise NotFound(f"There is no delegation {delegation_id} of yours.")
        if row["revoked_at"] is not None:
            raise RuleViolated("The delegation is revoked already.")
        await execute("update fi.delegation set revoked_at = $2 where delegation_id = $1", delegation_id, ctx.clock())
        await _note(ctx, "revoke", delegation_id, {"delegator": row["delegator"], "delegate": row["delegate"]})


async def listed(ctx: Context, *, current_only: bool) -> tuple[DelegationView, ...]:
    """The latest delegations, newest first: those of and to the actor; all for who writes finance at every site."""
    condition = "revoked_at is null and valid_until > $2" if current_only else "$2::timestamptz is not null"
    everybody = ctx.actor.may("fi.write") and ctx.actor.site_filter is None
    rows = await fetch(
        f"select {_COLUMNS} from fi.delegation where ($1::text is null or $1 in (delegator, delegate)) "
        f"and {condition} order by created_at desc, delegation_id desc limit {LISTED_MAX}",
        None if everybody else ctx.actor.username,
        ctx.clock(),
    )
    return tuple(DelegationView(**row) for row in rows)


async def _get(delegation_id: UUID) -> DelegationView:
    row = await fetchrow(f"select {_COLUMNS} from fi.delegation where delegation_id = $1", delegation_id)
    assert row is not None, "written just now"
    return DelegationView(**row)


async def _note(ctx: Context, verb: str, delegation_id: UUID, details: dict[str, object]) -> None:
    await record(
        ctx,
        action=f"delegation.{verb}",
        object_kind="delegation",
        object_id=str(delegation_id),
        details=msgspec.to_builtins(details),
    )
