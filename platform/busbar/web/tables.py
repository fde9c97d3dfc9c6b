"""What remembers the answers of keyed requests."""

from piccolo.columns import BigSerial, Bytea, Integer, Text, Timestamptz
from piccolo.constraints import Unique
from piccolo.table import Table

from busbar.db import DB


class IdempotencyRecord(Table, tablename="idempotency", schema="core", db=DB):
    """The answer to a request with an Idempotency-Key, kept so that a repeat gets the same one."""

    id = BigSerial(primary_key=True)
    scope = Text(default=None, null=False)
    key = Text(default=None, null=False)
    fingerprint = Text(default=None, null=False)
    status = Integer(default=None, null=False)
    headers = Text(default=None, null=False)
    body = Bytea(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)

    idempotency_unique = Unique([scope, key])
