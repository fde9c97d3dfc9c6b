"""Endpoints: configured instances of connectors, and what came in from them."""

from piccolo.columns import JSONB, Array, BigSerial, Boolean, Integer, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.db import DB


class EndpointRow(Table, tablename="endpoint", schema="core", db=DB):
    """One configured instance of a connector; secrets are encrypted and never read back."""

    endpoint_id = Text(primary_key=True, default=None, null=False)
    connector = Text(default=None, null=False)
    name = Text(default=None, null=False)
    sites = Array(base_column=Text(), default=None, null=False)
    settings = JSONB(default=None, null=False)
    secrets = JSONB(default=None, null=False, secret=True)
    runner = Text(default="busbar", null=False)
    active = Boolean(default=True, null=False)
    breaker = JSONB(default=None, null=True)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    endpoint_runner_known = Check("runner in ('busbar', 'camel')")


class RemoteReference(Table, tablename="remote_reference", schema="core", db=DB):
    """What one of our subjects is called at an endpoint's remote system."""

    id = BigSerial(primary_key=True)
    endpoint_id = Text(default=None, null=False)
    subject = Text(default=None, null=False)
    remote_id = Text(default=None, null=False)
    marker = Text(default=None, null=True)
    created_at = Timestamptz(default=None, null=False)

    remote_reference_unique = Unique([endpoint_id, subject])


class PollCursor(Table, tablename="poll_cursor", schema="core", db=DB):
    """How far a polled endpoint has been read."""

    endpoint_id = Text(primary_key=True, default=None, null=False)
    cursor = Text(default=None, null=False)
    polled_at = Timestamptz(default=None, null=False)


class InboundMessageRow(Table, tablename="inbound_message", schema="core", db=DB):
    """A webhook that was taken; its id keeps a repeated one from working twice."""

    id = BigSerial(primary_key=True)
    endpoint_id = Text(default=None, null=False)
    message_id = Text(default=None, null=False)
    received_at = Timestamptz(default=None, null=False)
    outcome = Text(default=None, null=False)

    inbound_message_unique = Unique([endpoint_id, message_id])
