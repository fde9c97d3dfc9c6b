"""The outbox and history of events, and the ledger of their deliveries."""

from piccolo.columns import JSONB, UUID, Array, BigInt, BigSerial, Boolean, Integer, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.db import DB


class Event(Table, tablename="event", schema="core", db=DB):
    """A fact, written in the transaction of the change it tells of.

    `seq` is taken while the change holds its locks, so it orders events of one subject; `position` is given by the
    relay after the commit, without gaps, and orders the stream.
    """

    event_id = UUID(primary_key=True, default=None, null=False)
    seq = BigSerial()
    event_type = Text(default=None, null=False)
    module = Text(default=None, null=False)
    site_id = Text(default=None, null=False)
    subject = Text(default=None, null=False)
    time = Timestamptz(default=None, null=False)
    data = JSONB(default=None, null=False)
    schema_version = Integer(default=1, null=False)
    correlation_id = Text(default=None, null=False)
    traceparent = Text(default=None, null=True)
    actor_id = Text(default=None, null=False)
    origin = Text(default=None, null=True)
    position = BigInt(default=None, null=True, unique=True)


class Delivery(Table, tablename="delivery", schema="core", db=DB):
    """One event for one subscription: where it stands, and how often it was tried.

    `attempts` counts every try; `charged` those that count towards the limit: a try against a remote that is known to
    be down is not the delivery's fault; `lost` those in a row whose worker was lost. While `handed_over_at` is set,
    another runner has it: it is held by its lease alone, and no more by the worker that handed it over.
    """

    delivery_id = BigSerial(primary_key=True)
    event_id = UUID(default=None, null=False)
    position = BigInt(default=None, null=False)
    subscription = Text(default=None, null=False)
    endpoint_id = Text(default=None, null=True)
    route_id = Text(default=None, null=True)
    route_version = Integer(default=None, null=True)
    site_id = Text(default=None, null=False)
    ordering_key = Text(default=None, null=True)
    state = Text(default=None, null=False)
    attempts = Integer(default=0, null=False)
    charged = Integer(default=0, null=False)
    lost = Integer(default=0, null=False)
    next_attempt_at = Timestamptz(default=None, null=False)
    worker = Integer(default=None, null=True)
    lease_until = Timestamptz(default=None, null=True)
    handed_over_at = Timestamptz(default=None, null=True)
    document = JSONB(default=None, null=True)
    last_error = Text(default=None, null=True)
    remote_id = Text(default=None, null=True)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)
    finished_at = Timestamptz(default=None, null=True)
    replay_id = UUID(default=None, null=True)

    delivery_once = Unique([event_id, subscription])
    delivery_state_known = Check("state in ('pending', 'in_flight', 'retrying', 'delivered', 'dead', 'skipped')")


class DeliveryAttempt(Table, tablename="delivery_attempt", schema="core", db=DB):
    """The outcome of one attempt; what the trace and the dead-letter desk show."""

    id = BigSerial(primary_key=True)
    delivery_id = BigInt(default=None, null=False)
    attempt = Integer(default=None, null=False)
    started_at = Timestamptz(default=None, null=False)
    finished_at = Timestamptz(default=None, null=False)
    outcome = Text(default=None, null=False)
    detail = Text(default=None, null=True)
    worker = Integer(default=None, null=False)
    runner = Text(default="busbar", null=False)
    uncertain = Boolean(default=True, null=False)

    delivery_attempt_runner_known = Check("runner in ('busbar', 'camel')")


class Replay(Table, tablename="replay", schema="core", db=DB):
    """A replay of many deliveries: which, by whose right, and how far it is.

    `mark` is the last delivery that it has come to, `last_delivery_id` the last that it is for.
    """

    replay_id = UUID(primary_key=True, default=None, null=False)
    state = Text(default=None, null=False)
    reason = Text(default=None, null=False)
    wanted = JSONB(default=None, null=False)
    actor = JSONB(default=None, null=False)
    per_second = Integer(default=None, null=False)
    matching = Integer(default=None, null=False)
    replayed = Integer(default=0, null=False)
    mark = BigInt(default=0, null=False)
    last_delivery_id = BigInt(default=None, null=False)
    created_by = Text(default=None, null=False)
    username = Text(default=None, null=False)
    correlation_id = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    next_step_at = Timestamptz(default=None, null=False)
    finished_at = Timestamptz(default=None, null=True)

    replay_state_known = Check("state in ('running', 'done', 'stopped')")


class ConfigurationRow(Table, tablename="configuration", schema="core", db=DB):
    """Numbers that change with what they are named after; `routing` with the sites, modules and routes."""

    name = Text(primary_key=True, default=None, null=False)
    version = BigInt(default=None, null=False)


class SubscriptionRow(Table, tablename="subscription", schema="core", db=DB):
    """What a plugin subscribed to when it last worked, and whether its handler fails with everything."""

    name = Text(primary_key=True, default=None, null=False)
    module = Text(default=None, null=False)
    pattern = Array(base_column=Text(), default=None, null=False)
    ordered = Boolean(default=None, null=False)
    suspended_at = Timestamptz(default=None, null=True)
    suspended_for = Text(default=None, null=True)
