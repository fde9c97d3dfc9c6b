"""What one event means for the instance, as requests for a runner that is not Busbar's own; by the same mapping."""

from collections.abc import Mapping
from typing import Any

from busbar.sdk import Attempt, Permanent
from busbar_itsm import calls
from busbar_itsm.answers import Refused
from busbar_itsm.calls import PLAIN
from busbar_itsm.delivery import FIELDS, OLDEST_FIRST, RECORDS_MAX
from busbar_itsm.mapping import telling_of
from busbar_itsm.marker import DISPLAY_CHARACTERS_MAX
from busbar_itsm.settings import ItsmSettings

SYS_ID = "{sys_id}"
"""Stands for the id of the record that was found."""


def compose(settings: ItsmSettings, attempt: Attempt) -> Mapping[str, Any]:
    """How to look for the ticket's record, what a new one holds, and what an old one may not have been told.

    The form is told in docs/how-to/run-camel.md. Raises Permanent or NothingToTell.
    """
    telling = telling_of(attempt.event, attempt.document, settings)
    try:
        known = None if attempt.remote_id is None else calls.get(settings.table, attempt.remote_id, fields=FIELDS)
        look = calls.find(
            settings.table,
            {"correlation_id": telling.ticket_id},
            fields=FIELDS,
            limit=RECORDS_MAX,
            order_by=OLDEST_FIRST,
        )
        table = calls.table_path(settings.table)
    except Refused as error:
        raise Permanent(f"This cannot be asked of ServiceNow: {error}") from error
    return {
        "operation": "tell_record",
        "table": settings.table,
        "ticket_id": telling.ticket_id,
        "known": None if known is None else {"path": known.path, "query": known.query},
        "look": {"path": look.path, "query": look.query},
        "marker": {
            "field": "correlation_display",
            "version": telling.marker.version,
            "facts_at": telling.marker.facts_at,
            "correlation_id": attempt.correlation_id,
            "characters_max": DISPLAY_CHARACTERS_MAX,
        },
        "create": {"path": table, "query": PLAIN, "body": telling.record(attempt.correlation_id)},
        "change": {
            "path": f"{table}/{SYS_ID}",
            "query": PLAIN,
            "body": {"correlation_id": telling.ticket_id},
            "ticket": telling.ticket,
            "facts": telling.facts,
        },
    }
