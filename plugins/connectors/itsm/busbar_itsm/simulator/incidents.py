"""What a real instance does by itself when an incident is written: states, priority, and the dates that follow."""

from collections.abc import Mapping

NEW, IN_PROGRESS, ON_HOLD, RESOLVED, CLOSED, CANCELED = "1", "2", "3", "6", "7", "8"
AWAITING_CALLER = "1"

# Impact x urgency to priority; read-only by default (ServiceNow's default priority lookup rules).
PRIORITIES = {
    ("1", "1"): "1",
    ("1", "2"): "2",
    ("1", "3"): "3",
    ("2", "1"): "2",
    ("2", "2"): "3",
    ("2", "3"): "4",
    ("3", "1"): "3",
    ("3", "2"): "4",
    ("3", "3"): "5",
}


class RuleBroken(Exception):
    """A data policy of the incident table refuses the write; nothing was written."""


def apply_rules(
    before: Mapping[str, str] | None, row: dict[str, str], sent: Mapping[str, str], *, user_id: str, at: str
) -> None:
    """Complete `row`, the incident as it would be stored, or raise RuleBroken.

    `before` is the stored record, None for a new one; `sent` are the fields of the request; `at` is the time of the
    write. The user is taken to hold the role itil_admin, which closing needs.
    """
    was = before["state"] if before else ""
    _keep_states_equal(row, sent)
    state = row["state"]
    stored_priority = before["priority"] if before else "5"
    row["priority"] = PRIORITIES.get((row["impact"], row["urgency"]), stored_priority)
    if before is None:
        row["opened_at"] = row["opened_at"] or at
        row["opened_by"] = row["opened_by"] or user_id
    elif row["assignment_group"] != before["assignment_group"]:
        row["reassignment_count"] = str(int(before["reassignment_count"] or 0) + 1)
    if state == ON_HOLD:
        _require(row, "hold_reason", label="On hold reason")
        if row["hold_reason"] == AWAITING_CALLER and was != ON_HOLD:
            _require(sent, "comments", label="Additional comments")
    else:
        row["hold_reason"] = ""
    if state in (RESOLVED, CLOSED):
        _require(row, "close_code", label="Resolution code")
        _require(row, "close_notes", label="Resolution notes")
    if state == was:
        return
    row["active"] = "false" if state in (CLOSED, CANCELED) else "true"
    if state == RESOLVED:
        row["resolved_at"], row["resolved_by"] = at, user_id
    elif state in (CLOSED, CANCELED):
        row["closed_at"], row["closed_by"] = at, user_id
    elif was in (RESOLVED, CLOSED):
        row["reopen_count"] = str(int(row["reopen_count"] or 0) + 1)
        row["resolved_at"] = row["resolved_by"] = row["closed_at"] = row["closed_by"] = ""


def _keep_states_equal(row: dict[str, str], sent: Mapping[str, str]) -> None:
    """`incident_state` is the older twin of `state`: whichever is sent, both hold the same value."""
    if "incident_state" in sent and "state" not in sent:
        row["state"] = row["incident_state"]
    else:
        row["incident_state"] = row["state"]


def _require(fields: Mapping[str, str], name: str, *, label: str) -> None:
    if not fields.get(name):
        raise RuleBroken(f"Data Policy Exception: The following fields are mandatory: {label}")
