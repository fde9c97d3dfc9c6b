"""Demo data: for each demo site a hierarchy of cost centers, rules, and approval requests and costs of every kind."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

import msgspec

from busbar.sdk import SITES, Actor, Context, fetchrow, fetchval, transaction
from busbar_fi import approval_rules, approvals, budgets, cost_centers, decisions, delegations, entries
from busbar_fi.approval_rules import ApprovalRule
from busbar_fi.approvals import NewRequest, Priority
from busbar_fi.cost_centers import NewCostCenter
from busbar_fi.entries import Posting
from busbar_fi.events import CostType, OverBudget
from busbar_fi.seed_requisitions import decide_requisitions

Stage = Literal["asked", "half way", "approved", "rejected", "withdrawn"]

DEMO_SITES: Final = ("north", "south", "office")
ENGINEER: Final = "maintenance.engineer"
OFFICER: Final = "finance.officer"
APPROVER: Final = "finance.approver"
_ROLES: Final = {ENGINEER: "Maintenance_Engineer", OFFICER: "Finance_Officer", APPROVER: "Finance_Approver"}
_DECIDERS: Final = {"role:Finance_Approver": APPROVER, "role:Finance_Officer": OFFICER}
BOTH: Final = ("role:Finance_Approver", "role:Finance_Officer")


class DemoCenter(msgspec.Struct, frozen=True, kw_only=True):
    """A cost center; its id and its parent's follow the site's name."""

    key: str
    name: str
    budget: str
    manager: str
    parent: str | None = "1000"
    over_budget: OverBudget = "warn"
    is_default: bool = False


class DemoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request, how far it has come, and what was spent on it then, by description, type and amount."""

    center: str
    amount: str
    text: str
    days_ago: int
    stage: Stage
    priority: Priority | None = None
    hierarchy: tuple[str, ...] = ("role:Finance_Officer",)
    spent: tuple[tuple[str, CostType, str], ...] = ()
    comment: str = "In order."


CENTERS: Final = (
    DemoCenter(key="1000", name="Network", budget="2400000.00", manager="Dr. Helga Stein", parent=None),
    DemoCenter(key="1100", name="Operation and maintenance", budget="620000.00", manager="Jens Ohm", is_default=True),
    DemoCenter(key="1110", name="Substations", budget="180000.00", manager="Mira Voss", parent="1100"),
    # Nearly used up: the next larger cost warns.
    DemoCenter(key="1120", name="Cable and overhead lines", budget="50000.00", manager="Tom Leitner", parent="1100"),
    DemoCenter(key="1200", name="Renewal programme", budget="950000.00", manager="Ines Kraft", over_budget="stop"),
    DemoCenter(key="1300", name="Vehicles and tools", budget="75000.00", manager="Paul Wagner", over_budget="stop"),
    DemoCenter(key="1400", name="Training", budget="18000.00", manager="Sara Blum", over_budget="off"),
)
REQUESTS: Final = (
    DemoRequest(
        center="1120", amount="48200.00", days_ago=70, stage="approved", hierarchy=BOTH,
        text="Replace 400 m of 20 kV cable at the harbour\nThree faults in two years.",
        spent=(("Excavation and backfilling", "OPEX", "21480.50"), ("Cable laying crew", "OPEX", "18750.00"),
               ("Traffic control", "OPEX", "7349.20"), ("Posted on the wrong cost center", "OPEX", "640.00")),
    ),
    DemoRequest(
        center="1200", amount="312000.00", days_ago=40, stage="approved", hierarchy=BOTH,
        text="Two 40 MVA transformers, first instalment",
        spent=(("First instalment, transformer 1", "CAPEX", "156000.00"),
               ("First instalment, transformer 2", "CAPEX", "156000.00")),
    ),
    DemoRequest(
        center="1110", amount="8900.00", days_ago=25, stage="approved", text="Oil samples and DGA, nine transformers",
        spent=(("Laboratory", "OPEX", "6210.75"), ("Sampling", "OPEX", "1980.00")),
    ),
    DemoRequest(
        center="1300", amount="61500.00", days_ago=3, stage="asked", priority="P1", hierarchy=BOTH,
        text="Mobile generator 250 kVA\nThe old one fails its inspection; the next storm season begins in four weeks.",
    ),
    DemoRequest(
        center="1200", amount="128400.00", days_ago=2, stage="half way", hierarchy=BOTH,
        text="Switchgear for the substation at the mill",
    ),
    DemoRequest(center="1110", amount="2350.00", days_ago=0, stage="asked", text="Bird protection at four busbars"),
    DemoRequest(
        center="1400", amount="4200.00", days_ago=6, stage="asked", priority="P4", text="Course: live-line working"
    ),
    DemoRequest(
        center="1300", amount="39000.00", days_ago=18, stage="rejected", text="Off-road pick-up truck",
        comment="Rent one for the winter, and ask again with the mileage.",
    ),
    DemoRequest(center="1400", amount="1900.00", days_ago=12, stage="withdrawn", text="Trade fair, two people"),
)  # fmt: skip
RULES: Final = (
    ApprovalRule(up_to=Decimal("5000.00"), approvers=("role:Finance_Officer",)),
    ApprovalRule(up_to=Decimal("50000.00"), approvers=("role:Finance_Approver", "role:Finance_Officer")),
    ApprovalRule(up_to=None, approvers=("role:Finance_Officer", "role:Finance_Approver", "role:Admin")),
)


async def add_demo_data(ctx: Context) -> None:
    """Fill the demo sites that have finance enabled; other sites are left alone. Safe to run twice."""
    for site_id in SITES.sites_with("fi"):
        if site_id in DEMO_SITES:
            await _add_centers(ctx, site_id)
            await _add_rules(ctx, site_id)
            for request in REQUESTS:
                await _add_request(ctx, site_id, request)
            await decide_requisitions(site_id, {role: _as(ctx, who, ctx.clock()) for role, who in _DECIDERS.items()})
    await _add_delegation(ctx)


async def _add_centers(ctx: Context, site_id: str) -> None:
    year = ctx.clock().year
    for center in CENTERS:
        center_id = _center_id(site_id, center.key)
        known = "select exists (select from fi.cost_center where cost_center_id = $1)"
        if await fetchval(known, center_id):
            continue
        async with transaction():
            amount = Decimal(center.budget)
            new = NewCostCenter(
                cost_center_id=center_id,
                name=center.name,
                budget_amount=amount,
                fiscal_year=year,
                responsible_manager=center.manager,
                parent_id=_center_id(site_id, center.parent) if center.parent else None,
                over_budget=center.over_budget,
                is_default=center.is_default,
            )
            await cost_centers.create(ctx, new, site_id=site_id)
            await cost_centers.set_budget(ctx, center_id, year - 1, amount)
            await cost_centers.set_budget(ctx, center_id, year + 1, (amount * Decimal("1.03")).quantize(budgets.ZERO))


async def _add_rules(ctx: Context, site_id: str) -> None:
    if not await fetchval("select exists (select from fi.approval_policy where site_id = $1)", site_id):
        known = await fetchval("select count(*) from core.role where 'role:' || role = any($1)", _roles_in_rules())
        if known == len(_roles_in_rules()):
            await approval_rules.replace(ctx, site_id, rules=RULES, remind_after_h=24)


def _roles_in_rules() -> list[str]:
    return sorted({name for rule in RULES for name in rule.approvers})


async def _add_request(ctx: Context, site_id: str, demo: DemoRequest) -> None:
    known = "select exists (select from fi.approval_request where site_id = $1 and justification = $2)"
    if await fetchval(known, site_id, demo.text):
        return
    begun = ctx.clock() - timedelta(days=demo.days_ago, hours=5)
    async with transaction():
        cost_center = await cost_centers.find(ctx, _center_id(site_id, demo.center))
        opened = await approvals.open_request(
            _as(ctx, ENGINEER, begun),
            NewRequest(
                amount=Decimal(demo.amount),
                justification=demo.text,
                cost_center_id=cost_center["cost_center_id"],
                approval_hierarchy=demo.hierarchy,
                priority=demo.priority,
            ),
            cost_center=cost_center,
            requested_by=ENGINEER,
        )
        await _decide(ctx, UUID(opened.approval_id), demo, begun)
        for number, (text, cost_type, amount) in enumerate(demo.spent, start=1):
            when = min(begun + timedelta(days=4 * number), ctx.clock())
            await _spend(ctx, opened.ticket_id, _center_id(site_id, demo.center), text, cost_type, amount, when)


async def _decide(ctx: Context, approval_id: UUID, demo: DemoRequest, begun: datetime) -> None:
    def at(level: int) -> Context:
        return _as(ctx, _DECIDERS[demo.hierarchy[level]], begun + timedelta(hours=2 * level + 1))

    match demo.stage:
        case "half way":
            await decisions.approve(at(0), approval_id, comment=demo.comment)
        case "approved":
            for level in range(len(demo.hierarchy)):
                await decisions.approve(at(level), approval_id, comment=demo.comment)
        case "rejected":
            await decisions.reject(at(0), approval_id, comment=demo.comment)
        case "withdrawn":
            later = begun + timedelta(hours=3)
            await decisions.withdraw(_as(ctx, ENGINEER, later), approval_id, comment="Nobody has the time.")


async def _spend(
    ctx: Context, ticket_id: str, center_id: str, text: str, cost_type: CostType, amount: str, when: datetime
) -> None:
    officer = _as(ctx, OFFICER, when)
    await budgets.lock([center_id])
    cost_center = await fetchrow("select * from fi.cost_center where cost_center_id = $1", center_id)
    assert cost_center is not None, "added before"
    entry_id = await entries.write(
        officer,
        cost_center,
        Posting(
            ticket_id=ticket_id,
            amount=Decimal(amount),
            cost_type=cost_type,
            posting_date=when.date(),
            description=text,
        ),
        may_exceed=True,
    )
    assert entry_id is not None, "it comes from no event"
    if text.startswith("Posted on the wrong"):
        await entries.reverse(officer, entry_id, reason="Belongs to 1110")


async def _add_delegation(ctx: Context) -> None:
    """The officer is away for two weeks, and the approver decides meanwhile; where there are demo users."""
    users = await fetchval("select count(*) from core.user_account where username = any($1)", [OFFICER, APPROVER])
    known = await fetchval("select exists (select from fi.delegation where delegator = $1)", OFFICER)
    if users == 2 and not known:
        now = ctx.clock()
        await delegations.delegate(
            _as(ctx, OFFICER, now),
            delegate=APPROVER,
            valid_from=now + timedelta(days=10),
            valid_until=now + timedelta(days=24),
            reason="Holiday",
        )


def _center_id(site_id: str, key: str) -> str:
    return f"{site_id.upper()}-{key}"


def _as(ctx: Context, username: str, moment: datetime) -> Context:
    """The same context, in which a demo user acts at another time."""
    moment = moment.astimezone(UTC)
    actor = Actor(
        user_id=f"demo:{username}",
        username=username,
        roles=(_ROLES[username],),
        permissions=ctx.actor.permissions,
        sites=ctx.actor.sites,
    )
    return msgspec.structs.replace(ctx, actor=actor, clock=lambda: moment)
