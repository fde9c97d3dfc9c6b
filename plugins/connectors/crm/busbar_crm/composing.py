"""What one event means for the organization, as requests for a runner that is not Busbar's own; by the same mapping."""

from collections.abc import Mapping
from typing import Any

from busbar.sdk import Attempt
from busbar_crm.client import path_of, wanted
from busbar_crm.delivery import CASE, COMMENT, comments_of, looked_at
from busbar_crm.mapping import telling_of
from busbar_crm.marker import MARKER_CHARACTERS_MAX
from busbar_crm.settings import CrmSettings

ID = "{Id}"
"""Stands for the id of the Case that was found."""


def compose(settings: CrmSettings, attempt: Attempt) -> Mapping[str, Any]:
    """How to look at the Case, what a new one holds, what an old one may not have been told, and the comment.

    The form is told in docs/how-to/run-camel.md. Raises Permanent.
    """
    telling = telling_of(attempt.event, attempt.document, settings)
    field, version = settings.external_id_field, settings.api_version
    case = path_of(version, "sobjects", CASE, field, telling.key)
    marker = telling.marker.text(attempt.correlation_id)
    comment = {
        "path": path_of(version, "sobjects", COMMENT),
        "body": telling.comment_fields(public=settings.comments_public),
        "reference": telling.reference,
    }
    return {
        "operation": "tell_case",
        "object": CASE,
        "key_field": field,
        "key": telling.key,
        "look": {"path": case, "query": {"fields": wanted(looked_at(settings))}},
        "marker": {
            "field": settings.marker_field,
            "version": telling.marker.version,
            "facts_at": telling.marker.facts_at,
            "told_at": telling.marker.told_at,
            "correlation_id": attempt.correlation_id,
            "characters_max": MARKER_CHARACTERS_MAX,
        },
        "create": {**telling.fields_of_new(), settings.marker_field: marker},
        "change": {"ticket": telling.ticket, "facts": telling.facts},
        "upsert": {"path": case},
        "composite": {"path": path_of(version, "composite")},
        "comment": comment if telling.comment else None,
        "comments": {"path": path_of(version, "query"), "query": {"q": comments_of(ID)}},
    }
