"""What the service desk changed: from the message of the instance's business rule to a change of our ticket."""

import re

import msgspec

from busbar.sdk import Endpoint, InboundMessage, Permanent, RemoteChange
from busbar_itsm.mapping import NEW, ON_HOLD, STATUSES
from busbar_itsm.settings import ItsmSettings

COMMENT_CHARACTERS_MAX = 4000

HOLD_REASONS = {"1": "Awaiting Caller", "3": "Awaiting Problem", "4": "Awaiting Vendor", "5": "Awaiting Change"}

_TICKET_ID = re.compile(r"TKT-[A-Z0-9_]{1,30}-\d{8}-\d{4,}")
# What getJournalEntry puts above the text: time, name and the field's label.
_JOURNAL_HEADER = re.compile(r"\A[^\n]{0,200}\((?:Additional comments|Work notes)\)\r?\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    """The record as it is now, and the names of the fields that this change touched."""

    sys_id: str
    correlation_id: str = ""
    number: str = ""
    state: str = ""
    hold_reason: str = ""
    close_notes: str = ""
    comments: str = ""
    work_notes: str = ""
    sys_updated_by: str = ""
    sys_mod_count: str = ""
    changed: tuple[str, ...] = ()


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    data: _Data


async def receive(endpoint: Endpoint, message: InboundMessage) -> tuple[RemoteChange, ...]:
    """Read a verified message; empty for what is not about a ticket, says nothing new, or is our own change.

    Raises Permanent for a body that is no such message.
    """
    try:
        told = msgspec.json.decode(message.body, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Permanent(f"The body is no message of the incident's business rule: {error}.") from error
    data = told.data
    if not _TICKET_ID.fullmatch(data.correlation_id) or _is_echo(data, endpoint.settings):
        return ()
    if told.type == "incident.deleted":
        status, comment = None, f"The record {data.number or data.sys_id} was deleted in ServiceNow."
    elif told.type == "incident.updated":
        status, comment = _status(data), _comment(data)
    else:
        # A record that a person copied from ours carries our id, and is not ours.
        return ()
    if status is None and not comment:
        return ()
    change = RemoteChange(
        remote_id=data.sys_id,
        ticket_id=data.correlation_id,
        status=status,
        comment=comment or None,
        # The revision that this change made; the core knows those that we made from our receipts.
        marker=data.sys_mod_count or None,
    )
    return (change,)


def _is_echo(data: _Data, settings: ItsmSettings) -> bool:
    """Whether we made this change: each of ours writes the marker, and nobody else has reason to."""
    return data.sys_updated_by.casefold() == settings.username.casefold() or "correlation_display" in data.changed


def _status(data: _Data) -> str | None:
    """The status that a change of state means; an unchanged state says nothing, whatever ours is."""
    return STATUSES.get(data.state) if "state" in data.changed else None


def _comment(data: _Data) -> str:
    """What people wrote, and what the state says that no status of ours can."""
    words = [_plain(data.comments), _plain(data.work_notes)]
    if "close_notes" in data.changed:
        words.append(_plain(data.close_notes))
    if "state" in data.changed and data.state == ON_HOLD:
        reason = HOLD_REASONS.get(data.hold_reason, "no known reason")
        words.append(f"The record was put on hold: {reason}.")
    if "state" in data.changed and data.state == NEW:
        words.append("The record was set back to New.")
    said = "\n".join(dict.fromkeys(word for word in words if word))
    if not said:
        return ""
    by = _plain(data.sys_updated_by) or "somebody"
    return f"{by} in ServiceNow: {said}"[:COMMENT_CHARACTERS_MAX]


def _plain(text: str) -> str:
    """A text from outside without the journal's header line and without control characters but tab and line feed."""
    return _CONTROL.sub("", _JOURNAL_HEADER.sub("", text)).strip()
