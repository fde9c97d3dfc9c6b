"""Routes as data, with every version kept."""

from piccolo.columns import JSONB, Array, BigSerial, Integer, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.db import DB


class RouteRow(Table, tablename="route", schema="core", db=DB):
    """A route: which events, filter, mapping, to which endpoint."""

    route_id = Text(primary_key=True, default=None, null=False)
    name = Text(default=None, null=False)
    sites = Array(base_column=Text(), default=None, null=False)
    pattern = Array(base_column=Text(), default=None, null=False)
    filter = Text(default=None, null=True)
    mapping = JSONB(default=None, null=True)
    endpoint_id = Text(default=None, null=False)
    attempts_max = Integer(default=12, null=False)
    state = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    route_state_known = Check("state in ('draft', 'published', 'off')")


class RouteVersion(Table, tablename="route_version", schema="core", db=DB):
    """What a route said at one version, and the act that made the version."""

    id = BigSerial(primary_key=True)
    route_id = Text(default=None, null=False)
    version = Integer(default=None, null=False)
    action = Text(default=None, null=False)
    state = Text(default=None, null=False)
    rule = JSONB(default=None, null=False)
    changed_by = Text(default=None, null=False)
    changed_at = Timestamptz(default=None, null=False)

    route_version_unique = Unique([route_id, version])
