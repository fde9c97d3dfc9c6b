"""The tables of plant maintenance."""

from piccolo.columns import JSONB, UUID, BigSerial, Date, DoublePrecision, Integer, Text, Timestamptz
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
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    order_type_known = Check("order_type in ('preventive', 'corrective', 'emergency')")
    order_status_known = Check("status in ('planned', 'completed', 'cancelled')")


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

    asset_history_once = Unique(["kind", "object_id"])


TABLES = (Asset, AssetHistory, AssetType, Incident, MaintenanceOrder, RestorationStep)
