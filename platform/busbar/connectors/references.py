"""What the remote systems call our subjects; asked for and written in batches, since every delivery needs it."""

from collections.abc import Sequence

import msgspec

from busbar.db import fetch, use_pool
from busbar.db.group_write import GroupWriter

_READ = """
select k.n, e.version, e.breaker, r.remote_id, r.marker
from unnest($1::text[], $2::text[]) with ordinality as k (endpoint_id, subject, n)
left join core.endpoint e on e.endpoint_id = k.endpoint_id
left join core.remote_reference r on r.endpoint_id = k.endpoint_id and r.subject = k.subject
order by k.n
"""
_WRITE = """
insert into core.remote_reference as known (endpoint_id, subject, remote_id, marker, created_at)
select endpoint_id, subject, remote_id, marker, now()
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as fresh (endpoint_id, subject, remote_id, marker)
on conflict (endpoint_id, subject) do update
set remote_id = excluded.remote_id, marker = coalesce(excluded.marker, known.marker)
"""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a subject at an endpoint's remote system."""

    endpoint_id: str
    subject: str
    remote_id: str
    marker: str | None = None
    """What our last write left in the remote's record; None keeps the one before."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt must know before it starts, as the database has it now."""

    version: int | None
    """Of the endpoint's settings; None when there is no such endpoint."""
    breaker: str | None
    remote_id: str | None
    marker: str | None


class References:
    """Reads and writes references; what waits at the same time shares one statement."""

    def __init__(self) -> None:
        self._reading: GroupWriter[tuple[str, str], Standing] = GroupWriter(_read, name="standings")
        self._writing: GroupWriter[Reference, None] = GroupWriter(_write, name="references", flushers=1)

    async def standing(self, endpoint_id: str, subject: str) -> Standing:
        """The state of the endpoint, and the subject's name there.

        Raises:
            Unavailable: the database cannot be reached, or too much waits for it.
        """
        return await self._reading.submit((endpoint_id, subject))

    async def store(self, reference: Reference) -> None:
        """Remember a reference; storing it twice is harmless.

        Raises:
            Unavailable: the database cannot be reached, or too much waits for it.
        """
        await self._writing.submit(reference)


async def _read(asked: Sequence[tuple[str, str]]) -> Sequence[Standing]:
    with use_pool("background"):
        rows = await fetch(_READ, [endpoint_id for endpoint_id, _ in asked], [subject for _, subject in asked])
    return [
        Standing(version=row["version"], breaker=row["breaker"], remote_id=row["remote_id"], marker=row["marker"])
        for row in rows
    ]


async def _write(references: Sequence[Reference]) -> Sequence[None]:
    # One row for each key, in a fixed order: two processes that write the same rows then do not wait for each other.
    latest = {(reference.endpoint_id, reference.subject): reference for reference in references}
    rows = [latest[key] for key in sorted(latest)]
    with use_pool("background"):
        await fetch(
            _WRITE,
            [row.endpoint_id for row in rows],
            [row.subject for row in rows],
            [row.remote_id for row in rows],
            [row.marker for row in rows],
        )
    return [None] * len(references)
