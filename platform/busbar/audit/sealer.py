"""Chains the trail by SHA-256, outside of requests, so that no entry can be altered, removed or moved unseen.

Hashing inside each transaction would halve what the platform can write (LESSONS D11), so a task follows behind and
seals what has committed. The order of the seals is the sealer's own: an entry with a low id that commits late gets a
later seal. Each hash covers the one before it, the seal's number and the entry. Whoever can change both tables could
still compute a new chain; therefore the head, the last seal, is exported: to the log, and to whoever asks for it.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec
import structlog

from busbar.db import execute, fetch, fetchrow, fetchval, transaction

log = structlog.get_logger()

GENESIS: Final = hashlib.sha256(b"busbar audit trail").digest()
"""What stands before the first seal."""
BATCH_MAX: Final = 2_000
ROUND_S: Final = 1.0
HEAD_LOGGED_S: Final = 60.0
LOOK_BACK: Final = 10_000
"""Ids below the highest sealed one that each round looks at again."""
SWEEP_S: Final = 300.0
"""So often the whole trail is looked through for entries without a seal."""
FINDINGS_MAX: Final = 1_000

_LOCK_KEY: Final = 0x6275_7365_616C
"""Advisory lock of the sealer; "buseal" in ASCII."""
_ENTRY: Final = """
a.audit_id, to_char(a.at, 'YYYY-MM-DD"T"HH24:MI:SS.US') as at, a.actor_id, a.actor_name, a.action, a.object_kind,
a.object_id, a.site_id, a.previous_status, a.new_status, a.comment, a.details::text as details, a.correlation_id
"""
_FIELDS: Final = (
    "audit_id",
    "at",
    "actor_id",
    "actor_name",
    "action",
    "object_kind",
    "object_id",
    "site_id",
    "previous_status",
    "new_status",
    "comment",
    "details",
    "correlation_id",
)
_UNSEALED: Final = f"""
select {_ENTRY} from core.audit a
where a.audit_id > $1 and not exists (select from core.audit_seal s where s.audit_id = a.audit_id)
order by a.audit_id limit {BATCH_MAX}
"""
_UNSEALED_COUNT: Final = """
select count(*) from core.audit a
where not exists (select from core.audit_seal s where s.audit_id = a.audit_id)
"""
_HEAD: Final = "select seal_id, audit_id, hash from core.audit_seal order by seal_id desc limit 1"
_ADD: Final = """
insert into core.audit_seal (seal_id, audit_id, hash)
select * from unnest($1::bigint[], $2::bigint[], $3::bytea[])
"""
_SEALED: Final = f"""
select s.seal_id, s.audit_id as sealed_id, s.hash, {_ENTRY}
from core.audit_seal s left join core.audit a on a.audit_id = s.audit_id
where s.seal_id > $1 order by s.seal_id limit {BATCH_MAX}
"""


class SealHead(msgspec.Struct, frozen=True, kw_only=True):
    """The last seal of the chain. Kept elsewhere, it proves later that nothing before it was changed."""

    seal_id: int
    """How many entries are sealed; 0 when none is."""
    hash: str
    """SHA-256 in hexadecimal."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One sign of tampering."""

    kind: Literal["altered", "deleted", "seal_missing", "cut_off", "rewritten"]
    seal_id: int
    audit_id: int | None
    detail: str
    """One sentence for an auditor."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing the trail with its seals showed."""

    entries: int
    """Sealed entries that were compared."""
    unsealed: int
    """Entries that wait for their seal; more than a few seconds' worth means that no sealer runs."""
    findings: tuple[Finding, ...]
    head: SealHead

    @property
    def intact(self) -> bool:
        """Whether there is no sign of tampering."""
        return not self.findings


class Sealer:
    """Seals what has committed; any number of processes may run one, they take turns."""

    def __init__(self) -> None:
        self._swept_at_s = float("-inf")

    async def run(self) -> None:
        """Seal once a second until cancelled, and log the head once a minute when it moved."""
        logged, logged_at_s = 0, float("-inf")
        while True:
            try:
                while await self.seal() == BATCH_MAX:
                    pass
                if time.monotonic() - logged_at_s >= HEAD_LOGGED_S and (now := await head()).seal_id != logged:
                    log.info("audit_head", seal_id=now.seal_id, hash=now.hash)
                    logged, logged_at_s = now.seal_id, time.monotonic()
            except Exception as error:  # noqa: BLE001 - the trail is sealed as soon as that is possible again
                log.error("audit_sealing_failed", error=str(error) or repr(error))
            await asyncio.sleep(ROUND_S)

    async def seal(self) -> int:
        """Seal up to `BATCH_MAX` entries that have none yet; returns how many."""
        async with transaction():
            if not await fetchval("select pg_try_advisory_xact_lock($1)", _LOCK_KEY):
                return 0
            last = await fetchrow(_HEAD)
            number, digest = (last["seal_id"], last["hash"]) if last is not None else (0, GENESIS)
            sweep = time.monotonic() - self._swept_at_s >= SWEEP_S
            # Ids are taken in order but commit in any order, so each round looks back; what commits later than that
            # is found by the sweep of the whole trail.
            above = 0 if sweep else await fetchval("select max(audit_id) from core.audit_seal") - LOOK_BACK
            rows = await fetch(_UNSEALED, above)
            seals = list(_chain(rows, number=number, digest=digest))
            if seals:
                await execute(_ADD, *(list(column) for column in zip(*seals, strict=True)))
        if sweep and len(seals) < BATCH_MAX and number + len(seals) > 0:
            self._swept_at_s = time.monotonic()
        return len(seals)


async def head() -> SealHead:
    """The last seal; with none yet, number 0 and the hash that every chain begins with."""
    row = await fetchrow(_HEAD)
    if row is None:
        return SealHead(seal_id=0, hash=GENESIS.hex())
    return SealHead(seal_id=row["seal_id"], hash=row["hash"].hex())


async def verify(anchor: SealHead | None = None) -> Verification:
    """Compare the whole trail with its seals, and with a head that was kept elsewhere.

    Finds entries that were altered, deleted or exchanged, seals that are missing, and, given an `anchor`, a trail that
    was cut off or rewritten as a whole. It does not find what was removed before it was sealed, within about a second.
    """
    findings: list[Finding] = []
    number, digest, entries = 0, GENESIS, 0
    anchor_seen = anchor is None or anchor.seal_id == 0
    while True:
        rows = await fetch(_SEALED, number)
        if not rows:
            break
        for row in rows:
            findings += _compare(row, number=number, digest=digest)
            number, digest, entries = row["seal_id"], row["hash"], entries + 1
            if anchor is not None and number == anchor.seal_id:
                anchor_seen = True
                if digest.hex() != anchor.hash:
                    findings.append(_rewritten(anchor))
        if len(findings) >= FINDINGS_MAX:
            break
    if anchor is not None and not anchor_seen and len(findings) < FINDINGS_MAX:
        findings.append(_cut_off(anchor, number))
    unsealed = await fetchval(_UNSEALED_COUNT)
    return Verification(
        entries=entries,
        unsealed=unsealed,
        findings=tuple(findings[:FINDINGS_MAX]),
        head=SealHead(seal_id=number, hash=digest.hex()),
    )


def _chain(rows: Iterable[Any], *, number: int, digest: bytes) -> Iterable[tuple[int, int, bytes]]:
    for row in rows:
        number += 1
        digest = _hash(digest, number, row)
        yield number, row["audit_id"], digest


def _hash(before: bytes, number: int, entry: Any) -> bytes:
    """The seal of one entry. The entry is written as a JSON array, so that no two entries read alike."""
    content = msgspec.json.encode([entry[name] for name in _FIELDS])
    return hashlib.sha256(before + number.to_bytes(8, "big") + content).digest()


def _compare(row: Any, *, number: int, digest: bytes) -> list[Finding]:
    """What is wrong with one seal, given the one before it as it is stored: one act of tampering, one finding."""
    seal_id, audit_id = row["seal_id"], row["sealed_id"]
    if seal_id != number + 1:
        detail = f"The seals {number + 1} to {seal_id - 1} are gone."
        return [Finding(kind="seal_missing", seal_id=number + 1, audit_id=None, detail=detail)]
    if row["audit_id"] is None:
        detail = f"The entry {audit_id} was deleted."
        return [Finding(kind="deleted", seal_id=seal_id, audit_id=audit_id, detail=detail)]
    if _hash(digest, seal_id, row) != row["hash"]:
        detail = f"The entry {audit_id}, or its seal, was altered."
        return [Finding(kind="altered", seal_id=seal_id, audit_id=audit_id, detail=detail)]
    return []


def _rewritten(anchor: SealHead) -> Finding:
    detail = f"The seal {anchor.seal_id} is not the one that was exported: the chain was computed anew."
    return Finding(kind="rewritten", seal_id=anchor.seal_id, audit_id=None, detail=detail)


def _cut_off(anchor: SealHead, last: int) -> Finding:
    detail = f"The trail ends at the seal {last}, but {anchor.seal_id} was exported: its end was cut off."
    return Finding(kind="cut_off", seal_id=last + 1, audit_id=None, detail=detail)
