"""Holds every event of a run against its published schema: what a consumer relies on is what was really told."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import asyncpg
import jsonschema

PUBLISHED = Path(__file__).resolve().parents[1] / "docs" / "reference" / "events"
EVENTS_OF_A_TYPE_MAX = 200
"""So many are looked at, the latest: a storm tells the same kind of thing thousands of times."""

_LATEST = """
select event_type, schema_version, event_id, data from (
    select *, row_number() over (partition by event_type, schema_version order by seq desc) as n from core.event
) e where n <= $1
"""


@cache
def _validator(event_type: str, version: int) -> jsonschema.Draft202012Validator:
    schema = json.loads((PUBLISHED / f"{event_type}.v{version}.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


async def check_events(dsn: str) -> int:
    """Every event that was written fits its published schema; returns how many were looked at."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(_LATEST, EVENTS_OF_A_TYPE_MAX)
    finally:
        await connection.close()
    wrong = list(_faults(rows))
    assert not wrong, f"{len(wrong)} events do not fit their published schema, for example {wrong[0]}"
    return len(rows)


def _faults(rows: list[asyncpg.Record]) -> Iterator[str]:
    for row in rows:
        data = json.loads(row["data"])
        for error in _validator(row["event_type"], row["schema_version"]).iter_errors(data):
            yield f"{row['event_type']} {row['event_id']}: {error.json_path}: {error.message}"
