"""Budgets: what may still be spent, checked and booked under the locks of the cost centers it concerns (decision 0016).

A booking on a cost center counts in its own budget and in those of all above it. A budget has room for what it holds
less actual costs less open commitments, its own and those of everything below.
"""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Final

import asyncpg
import msgspec

from busbar.sdk import Context, RuleViolated, execute, fetch, publish
from busbar_fi.events import BudgetExceeded, BudgetFacts, BudgetWarning, OverBudget

ZERO: Final = Decimal("0.00")


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A cost center's budget of a fiscal year, with everything below it, as it stands before a booking."""

    cost_center_id: str
    name: str
    over_budget: OverBudget
    currency: str
    fiscal_year: int
    budget_amount: Decimal
    actual_amount: Decimal
    committed_amount: Decimal
    is_over: bool

    def after(self, *, actual: Decimal, committed: Decimal) -> "Budget":
        """How it stands once that is booked on it or below."""
        changed = msgspec.structs.replace(
            self, actual_amount=self.actual_amount + actual, committed_amount=self.committed_amount + committed
        )
        return msgspec.structs.replace(changed, is_over=changed.available < 0)

    @property
    def available(self) -> Decimal:
        """What may still be spent; negative when it is overspent."""
        return self.budget_amount - self.actual_amount - self.committed_amount

    @property
    def facts(self) -> BudgetFacts:
        """For an event."""
        values = {name: getattr(self, name) for name in BudgetFacts.__struct_fields__}
        return BudgetFacts(**values)


class OverBudgetRefused(RuleViolated):
    """A budget whose policy is to stop has no room for it; nothing was written."""

    def __init__(self, budget: Budget, *, needed: Decimal) -> None:
        super().__init__(
            f"The budget {budget.fiscal_year} of {budget.cost_center_id} ({budget.name}) has {budget.available} "
            f"{budget.currency} left, and {needed} are needed; raise the budget, free commitments, or set its policy "
            "to warn.",
            members={"cost_center_id": budget.cost_center_id, "available": str(budget.available)},
        )
        self.budget = budget
        self.needed = needed


_CHAIN: Final = """
with recursive chain as (
    select cost_center_id, parent_id, 1 as depth from fi.cost_center where cost_center_id {asked}
    union
    select c.cost_center_id, c.parent_id, chain.depth + 1
    from chain join fi.cost_center c on c.cost_center_id = chain.parent_id where chain.depth < 100
)
"""
# By id, whoever asks: two bookings that meet never wait for each other in a circle. Where the policy is off nobody
# checks anything, and bookings below need not take turns.
_LOCK: Final = f"""
{_CHAIN}
select c.* from fi.cost_center c
where c.cost_center_id in (select cost_center_id from chain)
    and (c.over_budget <> 'off' or c.cost_center_id {{asked}})
order by c.cost_center_id for no key update of c
"""
# One id is compared, not looked for in an array: of that PostgreSQL would make a plan anew each time, which takes three
# times as long as the query itself.
_ONE, _MANY = "= $1", "= any($1)"
_LOCK_ONE, _LOCK_MANY = _LOCK.format(asked=_ONE), _LOCK.format(asked=_MANY)
_STANDING: Final = f"""
{_CHAIN.format(asked=_ONE)}, top as (
    select c.cost_center_id, c.name, c.over_budget, c.currency, y.fiscal_year, y.budget_amount, y.is_over
    from chain join fi.cost_center c using (cost_center_id)
        join fi.budget_year y on y.cost_center_id = c.cost_center_id and y.fiscal_year = $2
    where c.over_budget <> 'off' and y.budget_amount is not null
), below as (
    select top.cost_center_id as top_id, top.cost_center_id, 1 as depth from top
    union all
    select below.top_id, c.cost_center_id, below.depth + 1
    from below join fi.cost_center c on c.parent_id = below.cost_center_id where below.depth < 100
)
select top.*, coalesce(used.actual_amount, 0) as actual_amount, coalesce(used.committed_amount, 0) as committed_amount
from top left join (
    select below.top_id, sum(y.actual_amount) as actual_amount, sum(y.committed_amount) as committed_amount
    from below join fi.budget_year y on y.cost_center_id = below.cost_center_id and y.fiscal_year = $2
    group by below.top_id
) used on used.top_id = top.cost_center_id
order by top.cost_center_id
"""
_COMMIT: Final = """
insert into fi.budget_year as y (cost_center_id, fiscal_year, committed_amount) values ($1, $2, $3)
on conflict (cost_center_id, fiscal_year) do update set
    committed_amount = y.committed_amount + excluded.committed_amount
"""
# What is released was committed, so the row is there; an insert would be refused before it finds that out.
_RELEASE: Final = """
update fi.budget_year set committed_amount = committed_amount + $3 where cost_center_id = $1 and fiscal_year = $2
"""


def fiscal_year_of(day: date, start_month: int) -> int:
    """The fiscal year of a day: named by the calendar year in which it begins."""
    return day.year if day.month >= start_month else day.year - 1


async def lock(cost_center_ids: Sequence[str]) -> dict[str, asyncpg.Record]:
    """Let bookings on these cost centers, and on those that share a checked budget with them, take turns.

    Call it once in a transaction, with all cost centers that the transaction will book on. Returns the rows of those
    that there are, by their ids.
    """
    asked = sorted(set(cost_center_ids))
    rows = await (fetch(_LOCK_ONE, asked[0]) if len(asked) == 1 else fetch(_LOCK_MANY, asked))
    return {row["cost_center_id"]: row for row in rows if row["cost_center_id"] in asked}


async def standing(cost_center_id: str, fiscal_year: int) -> list[Budget]:
    """The checked budgets that a booking on the cost center would count in; read it after `lock`."""
    return [Budget(**row) for row in await fetch(_STANDING, cost_center_id, fiscal_year)]


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets that a booking counts in, before and after it."""

    change: Decimal
    before: tuple[Budget, ...]
    after: tuple[Budget, ...]


async def weigh(
    cost_center_id: str, fiscal_year: int, *, actual: Decimal = ZERO, committed: Decimal = ZERO, may_exceed: bool
) -> Weighed:
    """See what a booking on a cost center that is locked would do to the budgets, and whether there is room for it.

    With `may_exceed` a budget whose policy is to stop is passed all the same, for the cost has arisen.

    Raises:
        OverBudgetRefused: such a budget has no room, and it may not be exceeded.
    """
    change = actual + committed
    before = await standing(cost_center_id, fiscal_year)
    after = [budget.after(actual=actual, committed=committed) for budget in before]
    if change > 0 and not may_exceed:
        for stood, stands in zip(before, after, strict=True):
            if stands.over_budget == "stop" and stands.is_over:
                raise OverBudgetRefused(stood, needed=change)
    return Weighed(change=change, before=tuple(before), after=tuple(after))


async def commit_money(
    ctx: Context,
    cost_center: asyncpg.Record,
    fiscal_year: int,
    amount: Decimal,
    *,
    may_exceed: bool,
    source_ticket_id: str | None = None,
) -> None:
    """Set money aside on a cost center that is locked, or give it back, and tell of each budget that is passed by it.

    Raises:
        OverBudgetRefused: as with `weigh`; nothing was written.
    """
    cost_center_id = cost_center["cost_center_id"]
    weighed = await weigh(cost_center_id, fiscal_year, committed=amount, may_exceed=may_exceed)
    await execute(_RELEASE if amount < 0 else _COMMIT, cost_center_id, fiscal_year, amount)
    await tell_passed(ctx, weighed, cost_center, source_ticket_id)


async def tell_passed(
    ctx: Context, weighed: Weighed, cost_center: asyncpg.Record, source_ticket_id: str | None
) -> None:
    """Tell of each budget that a booking has passed; call it once the booking is written."""
    for stood, stands in zip(weighed.before, weighed.after, strict=True):
        if stood.is_over != stands.is_over:
            await _passed(ctx, stands, cost_center, weighed.change, source_ticket_id)


async def review(ctx: Context, cost_center: asyncpg.Record, fiscal_year: int) -> None:
    """After a budget, a policy or a place in the hierarchy changed: see anew which budgets are overspent."""
    for stood in await standing(cost_center["cost_center_id"], fiscal_year):
        stands = stood.after(actual=ZERO, committed=ZERO)
        if stood.is_over != stands.is_over:
            await _passed(ctx, stands, cost_center, ZERO, None)


async def _passed(
    ctx: Context, budget: Budget, cost_center: asyncpg.Record, change: Decimal, source_ticket_id: str | None
) -> None:
    """Remember on which side of its budget a cost center is; told only on the way up, so once for each crossing."""
    await execute(
        "update fi.budget_year set is_over = $3 where cost_center_id = $1 and fiscal_year = $2",
        budget.cost_center_id,
        budget.fiscal_year,
        budget.is_over,
    )
    if not budget.is_over:
        return
    booked_on, site_id = cost_center["cost_center_id"], cost_center["site_id"]
    if budget.over_budget == "warn":
        told = BudgetWarning(budget=budget.facts, booked_on=booked_on, change=change)
        await publish(ctx, "FI_BUDGET_WARNING", subject=budget.cost_center_id, site_id=site_id, data=told)
    else:
        await tell_exceeded(ctx, budget, cost_center, change, refused=False, source_ticket_id=source_ticket_id)


async def tell_exceeded(
    ctx: Context,
    budget: Budget,
    cost_center: asyncpg.Record,
    change: Decimal,
    *,
    refused: bool,
    source_ticket_id: str | None,
) -> None:
    """Tell that a budget that stops has no room."""
    await publish(
        ctx,
        "FI_BUDGET_EXCEEDED",
        subject=budget.cost_center_id,
        site_id=cost_center["site_id"],
        data=BudgetExceeded(
            budget=budget.facts,
            booked_on=cost_center["cost_center_id"],
            change=change,
            refused=refused,
            source_ticket_id=source_ticket_id,
        ),
    )
