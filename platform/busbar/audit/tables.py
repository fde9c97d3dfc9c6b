"""The append-only trail, and the seals that chain it."""

from piccolo.columns import JSONB, BigInt, BigSerial, Bytea, Text, Timestamptz
from piccolo.table import Table

from busbar.db import DB


class AuditEntry(Table, tablename="audit", schema="core", db=DB):
    """One act: who changed what, when, and why. Rows are only ever added; a trigger refuses anything else."""

    audit_id = BigSerial(primary_key=True)
    at = Timestamptz(default=None, null=False)
    actor_id = Text(default=None, null=False)
    actor_name = Text(default=None, null=False)
    action = Text(default=None, null=False)
    object_kind = Text(default=None, null=False)
    object_id = Text(default=None, null=False)
    site_id = Text(default=None, null=True)
    previous_status = Text(default=None, null=True)
    new_status = Text(default=None, null=True)
    comment = Text(default=None, null=True)
    details = JSONB(default=None, null=True)
    correlation_id = Text(default=None, null=False)


class AuditSeal(Table, tablename="audit_seal", schema="core", db=DB):
    """One link of the chain over the trail: written by the sealer, outside of requests (LESSONS D11)."""

    seal_id = BigInt(primary_key=True, default=None, null=False)
    audit_id = BigInt(default=None, null=False, unique=True)
    hash = Bytea(default=None, null=False)
