"""The mapping table at work: a short id for each thing that becomes a document in SAP, and what is known of it."""

import base64
import hashlib
from datetime import datetime
from typing import Any, Literal

import msgspec

from busbar.sdk import execute, fetch, fetchrow, fetchval

SHORT_ID_CHARACTERS = 16
"""ReferenceDocument of a material document takes no more; the other fields take 20 and 35."""
SALTS_MAX = 10

Kind = Literal["requisition", "movement", "reversal", "notification", "order"]

_COLUMNS = """
id, endpoint_id, kind, subject, short_id, ticket_id, remote_id, told_version, told_at, state, intended_state,
reported_state, reported_message, purchase_order, purchase_order_item, withdrawn
"""
_RESERVE = """
insert into erp.document (endpoint_id, kind, subject, short_id, ticket_id, created_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
"""
_FIND = f"select {_COLUMNS} from erp.document where endpoint_id = $1 and kind = $2 and subject = $3"
_BY_SHORT_IDS = f"select {_COLUMNS} from erp.document where endpoint_id = $1 and short_id = any($2::text[])"
_LEARN = """
update erp.document set
    remote_id = coalesce($2, remote_id), told_version = greatest(told_version, $3), told_at = greatest(told_at, $4),
    state = coalesce($5, state), intended_state = coalesce($6, intended_state), withdrawn = withdrawn or $7
where id = $1
"""
_REPORT = "update erp.document set reported_state = $2, reported_message = $3 where id = $1"
_TAKE_OVER = """
update erp.document set state = reported_state, intended_state = reported_state, reported_message = ''
where id = $1 and reported_message = $2
"""
_ORDERED = "update erp.document set purchase_order = $2, purchase_order_item = $3 where id = $1"
_TAKEN = "select exists(select from core.inbound_message where endpoint_id = $1 and message_id = $2)"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one document in SAP; the columns of `erp.document`."""

    id: int
    endpoint_id: str
    kind: Kind
    subject: str
    short_id: str
    ticket_id: str | None
    remote_id: str | None
    told_version: int
    told_at: datetime | None
    state: str
    intended_state: str
    reported_state: str
    reported_message: str
    purchase_order: str
    purchase_order_item: str
    withdrawn: bool

    def knows(self, state: str) -> bool:
        """Whether we brought the document there ourselves, or have taken the state over already."""
        return state in (self.state, self.intended_state)


async def reserve(
    endpoint_id: str, kind: Kind, subject: str, *, ticket_id: str | None, prefix: str, now: datetime
) -> Document:
    """The document of a subject, with its short id; the same for everybody who asks, now or after a crash."""
    for salt in range(SALTS_MAX):
        short_id = short_id_of(endpoint_id, kind, subject, prefix=prefix, salt=salt)
        await execute(_RESERVE, endpoint_id, kind, subject, short_id, ticket_id, now)
        # None only where another subject has the same short id already.
        if (known := await find(endpoint_id, kind, subject)) is not None:
            return known
    raise RuntimeError(f"{SALTS_MAX} short ids for {subject} are all taken, which is beyond chance.")


def short_id_of(endpoint_id: str, kind: Kind, subject: str, *, prefix: str, salt: int = 0) -> str:
    """16 characters, made of the subject alone, so that they are the same even if the table is lost.

    70 bits of SHA-256 in base 32 behind the prefix: among a million documents two are equal with odds of 1 to 2e9.
    """
    digest = hashlib.sha256("\n".join((endpoint_id, kind, subject, str(salt))).encode()).digest()
    return (prefix + base64.b32encode(digest).decode())[:SHORT_ID_CHARACTERS]


async def find(endpoint_id: str, kind: Kind, subject: str) -> Document | None:
    """The document of a subject, if one was reserved."""
    row = await fetchrow(_FIND, endpoint_id, kind, subject)
    return None if row is None else Document(**row)


async def by_short_ids(endpoint_id: str, short_ids: list[str]) -> dict[str, Document]:
    """The documents with these short ids, by short id."""
    rows = await fetch(_BY_SHORT_IDS, endpoint_id, short_ids)
    return {row["short_id"]: Document(**row) for row in rows}


async def learn(
    document: Document,
    *,
    remote_id: str | None = None,
    told_version: int = 0,
    told_at: datetime | None = None,
    state: str | None = None,
    intended_state: str | None = None,
    withdrawn: bool = False,
) -> None:
    """Remember what an attempt has found out or done; what is None stays as it was."""
    arguments: tuple[Any, ...] = (remote_id, told_version, told_at, state, intended_state, withdrawn)
    await execute(_LEARN, document.id, *arguments)


async def learn_purchase_order(document: Document, number: str, item: str) -> None:
    """Remember what a requisition was ordered with, for the goods receipt that will refer to it."""
    await execute(_ORDERED, document.id, number, item)


async def report(document: Document, state: str, *, message_id: str) -> None:
    """Remember that a message hands the core this state as somebody else's change."""
    await execute(_REPORT, document.id, state, message_id)


async def settled(document: Document) -> Document:
    """The document with the state that was reported of it, if the core has taken that report.

    A message that was handed over may still be lost with the process that took it, so the core is asked.
    """
    if not document.reported_message:
        return document
    if not await fetchval(_TAKEN, document.endpoint_id, document.reported_message):
        return document
    await execute(_TAKE_OVER, document.id, document.reported_message)
    state = document.reported_state
    return msgspec.structs.replace(document, state=state, intended_state=state, reported_message="")
