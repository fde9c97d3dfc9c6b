"""The tables of finance. Money is numeric(15,2) and never passes through a float."""

from decimal import Decimal

from piccolo.columns import UUID, Array, BigSerial, Boolean, Date, Integer, Numeric, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.sdk import DB

MONEY = (15, 2)
TOTAL = (20, 2)


class CostCenter(Table, tablename="cost_center", schema="fi", db=DB):
    """Where costs are gathered, with its place in the hierarchy and the fiscal year that it shows."""

    cost_center_id = Text(primary_key=True, default=None, null=False)
    name = Text(default=None, null=False)
    parent_id = Text(default=None, null=True)
    responsible_manager = Text(default=None, null=False)
    fiscal_year = Integer(default=None, null=False)
    fiscal_year_start_month = Integer(default=1, null=False)
    currency = Text(default="EUR", null=False)
    over_budget = Text(default="warn", null=False)
    is_default = Boolean(default=False, null=False)
    status = Text(default="active", null=False)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    cost_center_over_budget_known = Check("over_budget in ('off', 'warn', 'stop')")
    cost_center_status_known = Check("status in ('active', 'closed')")
    cost_center_month_in_year = Check("fiscal_year_start_month between 1 and 12")
    cost_center_not_below_itself = Check("parent_id <> cost_center_id")


class BudgetYear(Table, tablename="budget_year", schema="fi", db=DB):
    """A cost center's fiscal year: its budget, if it has one, and what was booked on it, without those below it."""

    id = BigSerial(primary_key=True)
    cost_center_id = Text(default=None, null=False)
    fiscal_year = Integer(default=None, null=False)
    budget_amount = Numeric(digits=MONEY, default=None, null=True)
    actual_amount = Numeric(digits=TOTAL, default=Decimal(0), null=False)
    committed_amount = Numeric(digits=TOTAL, default=Decimal(0), null=False)
    is_over = Boolean(default=False, null=False)

    budget_year_once = Unique(["cost_center_id", "fiscal_year"])
    budget_year_not_negative = Check("budget_amount >= 0")
    budget_year_committed_not_negative = Check("committed_amount >= 0")


class Commitment(Table, tablename="commitment", schema="fi", db=DB):
    """Money that a requisition or an order will need, kept free of other use until it is spent or given back."""

    commitment_id = UUID(primary_key=True, default=None, null=False)
    source_kind = Text(default=None, null=False)
    source_id = Text(default=None, null=False)
    source_ticket_id = Text(default=None, null=False)
    cost_center_id = Text(default=None, null=False)
    fiscal_year = Integer(default=None, null=False)
    original_amount = Numeric(digits=MONEY, default=None, null=False)
    amount = Numeric(digits=MONEY, default=None, null=False)
    currency = Text(default=None, null=False)
    status = Text(default="open", null=False)
    site_id = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    commitment_once = Unique(["source_kind", "source_id"])
    commitment_source_known = Check("source_kind in ('requisition', 'order')")
    commitment_status_known = Check("status in ('open', 'reduced', 'closed')")
    commitment_not_negative = Check("amount >= 0 and original_amount >= 0")
    commitment_closed_is_empty = Check("status <> 'closed' or amount = 0")


class CostEntry(Table, tablename="cost_entry", schema="fi", db=DB):
    """A cost that arose; entries are never changed, only reversed by another one."""

    entry_id = UUID(primary_key=True, default=None, null=False)
    kind = Text(default=None, null=False)
    ticket_id = Text(default=None, null=True)
    cost_center_id = Text(default=None, null=False)
    fiscal_year = Integer(default=None, null=False)
    posting_date = Date(default=None, null=False)
    cost_type = Text(default=None, null=False)
    amount = Numeric(digits=MONEY, default=None, null=False)
    currency = Text(default=None, null=False)
    description = Text(default="", null=False)
    asset_id = Text(default=None, null=True)
    reverses = UUID(default=None, null=True, unique=True)
    source_event_type = Text(default=None, null=True)
    source_event_id = UUID(default=None, null=True)
    source_line = Integer(default=None, null=True)
    posted_by = Text(default=None, null=False)
    site_id = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)

    cost_entry_source_once = Unique(["source_event_id", "source_line"])
    cost_entry_type_known = Check("cost_type in ('CAPEX', 'OPEX')")
    cost_entry_sign_fits = Check("(kind = 'cost' and amount > 0) or (kind in ('reversal', 'return') and amount < 0)")
    cost_entry_reversal_names_its_entry = Check("(kind = 'reversal') = (reverses is not null)")
    cost_entry_source_complete = Check(
        "(source_event_id is null) = (source_line is null) and (source_event_id is null) = (source_event_type is null)"
    )


class CostObject(Table, tablename="cost_object", schema="fi", db=DB):
    """What finance keeps of another module's ticket: where its costs go, and the asset it is about."""

    ticket_id = Text(primary_key=True, default=None, null=False)
    kind = Text(default=None, null=False)
    object_id = Text(default=None, null=False)
    asset_id = Text(default=None, null=True)
    cost_center_id = Text(default=None, null=True)
    cost_type = Text(default="OPEX", null=False)
    site_id = Text(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    cost_object_kind_known = Check("kind in ('order', 'incident')")
    cost_object_type_known = Check("cost_type in ('CAPEX', 'OPEX')")


class ApprovalRequest(Table, tablename="approval_request", schema="fi", db=DB):
    """Somebody asks for an amount; the levels of its hierarchy decide in order."""

    approval_id = UUID(primary_key=True, default=None, null=False)
    ticket_id = Text(default=None, null=False, unique=True)
    cost_center_id = Text(default=None, null=False)
    amount = Numeric(digits=MONEY, default=None, null=False)
    currency = Text(default=None, null=False)
    justification = Text(default=None, null=False)
    priority = Text(default=None, null=False)
    status = Text(default="pending", null=False)
    level = Integer(default=1, null=False)
    requested_by = Text(default=None, null=False)
    subject_kind = Text(default=None, null=True)
    subject_id = Text(default=None, null=True)
    subject_ticket_id = Text(default=None, null=True)
    waiting_since = Timestamptz(default=None, null=False)
    reminded_at = Timestamptz(default=None, null=True)
    decided_by = Text(default=None, null=True)
    decided_at = Timestamptz(default=None, null=True)
    comment = Text(default=None, null=True)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    approval_request_subject_once = Unique(["subject_kind", "subject_id"])
    approval_request_status_known = Check("status in ('pending', 'approved', 'rejected', 'withdrawn')")
    approval_request_not_negative = Check("amount >= 0")
    approval_request_decided = Check("(status = 'pending') = (decided_at is null)")


class ApprovalLevel(Table, tablename="approval_level", schema="fi", db=DB):
    """One level of a request: who is to decide, a user or `role:<name>`, and who did."""

    id = BigSerial(primary_key=True)
    approval_id = UUID(default=None, null=False)
    level = Integer(default=None, null=False)
    approver = Text(default=None, null=False)
    decision = Text(default=None, null=True)
    decided_by = Text(default=None, null=True)
    on_behalf_of = Text(default=None, null=True)
    decided_at = Timestamptz(default=None, null=True)
    comment = Text(default=None, null=True)

    approval_level_once = Unique(["approval_id", "level"])
    approval_level_decision_known = Check("decision in ('approved', 'rejected')")
    approval_level_decided = Check("(decision is null) = (decided_by is null)")


class Delegation(Table, tablename="delegation", schema="fi", db=DB):
    """For a time, one person decides for another."""

    delegation_id = UUID(primary_key=True, default=None, null=False)
    delegator = Text(default=None, null=False)
    delegate = Text(default=None, null=False)
    valid_from = Timestamptz(default=None, null=False)
    valid_until = Timestamptz(default=None, null=False)
    reason = Text(default="", null=False)
    revoked_at = Timestamptz(default=None, null=True)
    created_by = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)

    delegation_to_another = Check("delegator <> delegate")
    delegation_has_a_length = Check("valid_from < valid_until")


class ApprovalPolicy(Table, tablename="approval_policy", schema="fi", db=DB):
    """How a site has requests decided: when approvers are reminded; its rules are beside it."""

    site_id = Text(primary_key=True, default=None, null=False)
    remind_after_h = Integer(default=24, null=False)
    version = Integer(default=1, null=False)

    approval_policy_hours_positive = Check("remind_after_h > 0")


class ApprovalRule(Table, tablename="approval_rule", schema="fi", db=DB):
    """Up to an amount, these approvers decide, in order; the rule without an amount is for everything above."""

    id = BigSerial(primary_key=True)
    site_id = Text(default=None, null=False)
    up_to = Numeric(digits=MONEY, default=None, null=True)
    approvers = Array(base_column=Text(), default=None, null=False)

    approval_rule_amount_positive = Check("up_to > 0")


TABLES = (
    ApprovalLevel,
    ApprovalPolicy,
    ApprovalRequest,
    ApprovalRule,
    BudgetYear,
    Commitment,
    CostCenter,
    CostEntry,
    CostObject,
    Delegation,
)
