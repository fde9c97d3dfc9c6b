"""The tables of plant maintenance."""

from decimal import Decimal

from piccolo.columns import (
    JSONB,
    UUID,
    BigSerial,
    Boolean,
    Date,
    DoublePrecision,
    Integer,
    Numeric,
    Text,
    Timestamptz,
)
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.sdk import DB


class AssetType(Table, tablename="asset_type", schema="pm", db=DB):
    """A kind of asset; further kinds are data, not code."""

    asset_type = Text(primary_key=True, default=None, null=False)
    title = Text(default=None, null=False)


class Asset(Table, tablename="asset", schema="pm", db=DB):
    """A piece of the network, with its place in the hierarchy."""

    asset_id = Text(primary_key=True, default=None, null=False)
    asset_type = Text(default=None, null=False)
    name = Text(default=None, null=False)
    location = Text(default="", null=False)
    latitude = DoublePrecision(default=None, null=True)
    longitude = DoublePrecision(default=None, null=True)
    installation_date = Date(default=None, null=True)
    status = Text(default="in_service", null=False)
    parent_id = Text(default=None, null=True)
    customers_served = Integer(default=0, null=False)
    voltage_kv = DoublePrecision(default=None, null=True)
    cost_center_id = Text(default=None, null=True)
    attributes = JSONB(default="{}", null=False)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    asset_status_known = Check("status in ('planned', 'in_service', 'out_of_service', 'retired')")
    asset_customers_not_negative = Check("customers_served >= 0")


class MaintenanceOrder(Table, tablename="maintenance_order", schema="pm", db=DB):
    """Work on an asset (SAP PM: maintenance order)."""

    order_id = UUID(primary_key=True, default=None, null=False)
    ticket_id = Text(default=None, null=False, unique=True)
    asset_id = Text(default=None, null=False)
    order_type = Text(default=None, null=False)
    description = Text(default=None, null=False)
    scheduled_date = Date(default=None, null=False)
    status = Text(default="planned", null=False)
    completed_at = Timestamptz(default=None, null=True)
    completion_notes = Text(default=None, null=True)
    cost_center_id = Text(default=None, null=True)
    cost_type = Text(default="OPEX", null=False)
    plan_id = UUID(default=None, null=True)
    incident_id = UUID(default=None, null=True)
    object_part = Text(default="unknown", null=False)
    damage = Text(default="unknown", null=False)
    cause = Text(default="unknown", null=False)
    detection = Text(default="unknown", null=False)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    order_type_known = Check("order_type in ('preventive', 'corrective', 'emergency')")
    order_status_known = Check("status in ('planned', 'completed', 'cancelled')")
    order_cost_type_known = Check("cost_type in ('OPEX', 'CAPEX')")


class Incident(Table, tablename="incident", schema="pm", db=DB):
    """A fault, outage or degradation of an asset; an outage counts the customers it affects."""

    incident_id = UUID(primary_key=True, default=None, null=False)
    ticket_id = Text(default=None, null=False, unique=True)
    asset_id = Text(default=None, null=False)
    fault_type = Text(default=None, null=False)
    severity = Text(default=None, null=False)
    description = Text(default=None, null=False)
    started_at = Timestamptz(default=None, null=False)
    restored_at = Timestamptz(default=None, null=True)
    customers_affected = Integer(default=0, null=False)
    site_id = Text(default=None, null=False)
    source_ref = Text(default=None, null=True)
    object_part = Text(default="unknown", null=False)
    damage = Text(default="unknown", null=False)
    cause = Text(default="unknown", null=False)
    detection = Text(default="unknown", null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    incident_fault_type_known = Check("fault_type in ('fault', 'outage', 'degradation')")
    incident_severity_known = Check("severity in ('P1', 'P2', 'P3', 'P4')")
    incident_customers_not_negative = Check("customers_affected >= 0")
    incident_source_unique = Unique(["site_id", "source_ref"])


class RestorationStep(Table, tablename="restoration_step", schema="pm", db=DB):
    """Some of an outage's customers have power again (IEEE 1366: interruptions are restored in steps)."""

    id = BigSerial(primary_key=True)
    incident_id = UUID(default=None, null=False)
    step = Integer(default=None, null=False)
    restored_at = Timestamptz(default=None, null=False)
    customers_restored = Integer(default=None, null=False)
    note = Text(default=None, null=True)

    restoration_step_unique = Unique(["incident_id", "step"])
    restoration_step_positive = Check("customers_restored > 0")


class AssetHistory(Table, tablename="asset_history", schema="pm", db=DB):
    """What was done to an asset; written when an order is completed."""

    id = BigSerial(primary_key=True)
    asset_id = Text(default=None, null=False)
    at = Timestamptz(default=None, null=False)
    kind = Text(default=None, null=False)
    ticket_id = Text(default=None, null=False)
    object_id = Text(default=None, null=False)
    summary = Text(default=None, null=False)
    recorded_by = Text(default=None, null=False)
    cost = Numeric(digits=(15, 2), default=Decimal(0), null=False)
    labour_hours = Numeric(digits=(15, 3), default=Decimal(0), null=False)

    asset_history_once = Unique(["kind", "object_id"])


class ChecklistItem(Table, tablename="order_checklist_item", schema="pm", db=DB):
    """One thing to be done or looked at in an order's work, and who ticked it."""

    id = BigSerial(primary_key=True)
    order_id = UUID(default=None, null=False)
    position = Integer(default=None, null=False)
    text = Text(default=None, null=False)
    mandatory = Boolean(default=True, null=False)
    done_at = Timestamptz(default=None, null=True)
    done_by = Text(default=None, null=True)
    note = Text(default=None, null=True)

    checklist_position_once = Unique(["order_id", "position"])


class PlannedLabour(Table, tablename="order_planned_labour", schema="pm", db=DB):
    """Hours of work that an order is planned to take."""

    id = BigSerial(primary_key=True)
    order_id = UUID(default=None, null=False)
    position = Integer(default=None, null=False)
    description = Text(default=None, null=False)
    hours = Numeric(digits=(15, 3), default=None, null=False)
    hourly_rate = Numeric(digits=(15, 2), default=None, null=False)

    planned_labour_position_once = Unique(["order_id", "position"])


class Component(Table, tablename="order_component", schema="pm", db=DB):
    """Material that an order is planned to take from stock."""

    id = BigSerial(primary_key=True)
    order_id = UUID(default=None, null=False)
    material_id = Text(default=None, null=False)
    quantity = Numeric(digits=(15, 3), default=None, null=False)

    component_once = Unique(["order_id", "material_id"])
    component_quantity_positive = Check("quantity > 0")


class Actual(Table, tablename="order_actual", schema="pm", db=DB):
    """What an order's work cost: hours, an outside firm, material bought for it; not what came from stock."""

    id = BigSerial(primary_key=True)
    entry_id = UUID(default=None, null=False, unique=True)
    order_id = UUID(default=None, null=False)
    kind = Text(default=None, null=False)
    description = Text(default=None, null=False)
    hours = Numeric(digits=(15, 3), default=None, null=True)
    hourly_rate = Numeric(digits=(15, 2), default=None, null=True)
    amount = Numeric(digits=(15, 2), default=None, null=False)
    recorded_at = Timestamptz(default=None, null=False)
    recorded_by = Text(default=None, null=False)

    actual_kind_known = Check("kind in ('labour', 'external', 'material')")
    actual_hours_of_labour = Check("(kind = 'labour') = (hours is not null and hourly_rate is not null)")
    actual_amount_not_negative = Check("amount >= 0")


class Issue(Table, tablename="order_issue", schema="pm", db=DB):
    """Material that materials management issued to an order from stock, or took back: then it is negative."""

    transaction_id = UUID(primary_key=True, default=None, null=False)
    order_id = UUID(default=None, null=False)
    material_id = Text(default=None, null=False)
    description = Text(default=None, null=False)
    unit_of_measure = Text(default=None, null=False)
    quantity = Numeric(digits=(15, 3), default=None, null=False)
    value = Numeric(digits=(15, 2), default=None, null=False)
    posted_at = Timestamptz(default=None, null=False)
    posted_by = Text(default=None, null=False)


class MaintenancePlan(Table, tablename="maintenance_plan", schema="pm", db=DB):
    """When maintenance is due, and the order that is opened then (SAP PM: maintenance plan)."""

    plan_id = UUID(primary_key=True, default=None, null=False)
    name = Text(default=None, null=False)
    asset_id = Text(default=None, null=True)
    asset_type = Text(default=None, null=True)
    kind = Text(default=None, null=False)
    trigger = JSONB(default=None, null=False)
    template = JSONB(default=None, null=False)
    lead_days = Integer(default=0, null=False)
    active = Boolean(default=True, null=False)
    next_due = Date(default=None, null=True)
    next_value = Numeric(digits=(18, 3), default=None, null=True)
    armed = Boolean(default=True, null=False)
    calls = Integer(default=0, null=False)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    plan_kind_known = Check("kind in ('calendar', 'meter', 'condition', 'incident')")
    plan_of_one_asset_or_type = Check("(asset_id is null) <> (asset_type is null)")
    plan_of_a_type_waits_for_incidents = Check("asset_type is null or kind = 'incident'")


class MaintenanceCall(Table, tablename="maintenance_call", schema="pm", db=DB):
    """A plan fell due and opened its order; the number of a plan's calls, and the incident, are there once each."""

    call_id = UUID(primary_key=True, default=None, null=False)
    plan_id = UUID(default=None, null=False)
    number = Integer(default=None, null=False)
    order_id = UUID(default=None, null=False)
    due_date = Date(default=None, null=False)
    reading = Numeric(digits=(15, 3), default=None, null=True)
    incident_id = UUID(default=None, null=True)
    covered = Integer(default=0, null=False)
    reason = Text(default=None, null=False)
    called_at = Timestamptz(default=None, null=False)

    call_number_once = Unique(["plan_id", "number"])
    call_incident_once = Unique(["plan_id", "incident_id"])


class Measurement(Table, tablename="measurement", schema="pm", db=DB):
    """A reading of a counter or gauge of an asset."""

    measurement_id = UUID(primary_key=True, default=None, null=False)
    asset_id = Text(default=None, null=False)
    name = Text(default=None, null=False)
    value = Numeric(digits=(15, 3), default=None, null=False)
    unit = Text(default="", null=False)
    taken_at = Timestamptz(default=None, null=False)
    source_ref = Text(default=None, null=True)
    recorded_at = Timestamptz(default=None, null=False)
    recorded_by = Text(default=None, null=False)

    measurement_source_once = Unique(["asset_id", "source_ref"])


class FailureCode(Table, tablename="failure_code", schema="pm", db=DB):
    """What may be said of a failure, in four groups of codes; further codes are data."""

    id = BigSerial(primary_key=True)
    code_group = Text(default=None, null=False)
    code = Text(default=None, null=False)
    title = Text(default=None, null=False)
    active = Boolean(default=True, null=False)

    failure_code_once = Unique(["code_group", "code"])
    failure_code_group_known = Check("code_group in ('object_part', 'damage', 'cause', 'detection')")


TABLES = (
    Actual,
    Asset,
    AssetHistory,
    AssetType,
    ChecklistItem,
    Component,
    FailureCode,
    Incident,
    Issue,
    MaintenanceCall,
    MaintenanceOrder,
    MaintenancePlan,
    Measurement,
    PlannedLabour,
    RestorationStep,
)
