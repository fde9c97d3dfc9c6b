"""What the bus keeps beside the ledger."""

from piccolo.columns import BigInt, Text, Timestamptz
from piccolo.table import Table

from busbar.db import DB


class JobRow(Table, tablename="job", schema="core", db=DB):
    """When a scheduled job runs next, and how it went last."""

    name = Text(primary_key=True, default=None, null=False)
    next_run_at = Timestamptz(default=None, null=False)
    last_run_at = Timestamptz(default=None, null=True)
    last_error = Text(default=None, null=True)


class PublicationRow(Table, tablename="publication", schema="core", db=DB):
    """How far the events have been brought to the broker; null until one is used for the first time."""

    name = Text(primary_key=True, default=None, null=False)
    position = BigInt(default=None, null=True)
