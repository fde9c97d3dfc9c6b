"""What the service team changed: from the message of the organization's trigger to a change of our ticket."""

import re

import msgspec

from busbar.sdk import Endpoint, InboundMessage, Permanent, RemoteChange
from busbar_crm.mapping import statuses_back
from busbar_crm.settings import CrmSettings

COMMENT_CHARACTERS_MAX = 4000

_TICKET_ID = re.compile(r"TKT-[A-Z0-9_]{1,30}-\d{8}-\d{4,}")
# The last line of every comment that Busbar writes.
_OURS = re.compile(r"\n— Busbar, \d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC, \S+\s*\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    """The Case as it is now, and the names of the fields that this change touched."""

    id: str
    busbar_id: str = ""
    case_number: str = ""
    status: str = ""
    comment: str = ""
    changed_by: str = ""
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
        raise Permanent(f"The body is no message of the Case's trigger: {error}.") from error
    data, settings = told.data, endpoint.settings
    if not is_ticket(data.busbar_id) or _is_echo(data, settings):
        return ()
    status, comment = None, ""
    if told.type == "case.deleted":
        comment = f"The Case {data.case_number or data.id} was deleted in Salesforce."
    elif told.type == "case.commented":
        comment = said_by(data.changed_by, data.comment)
    elif told.type == "case.updated" and "Status" in data.changed:
        status, comment = meaning_of(data.status, settings, by=data.changed_by)
    if status is None and not comment:
        return ()
    return (RemoteChange(remote_id=data.id, ticket_id=data.busbar_id, status=status, comment=comment or None),)


def is_ticket(key: str) -> bool:
    """Whether an external id is a ticket's: the Case of a cost center's budget has no ticket."""
    return _TICKET_ID.fullmatch(key) is not None


def is_ours(comment: str) -> bool:
    """Whether Busbar wrote a comment."""
    return _OURS.search(comment) is not None


def meaning_of(status: str, settings: CrmSettings, *, by: str) -> tuple[str | None, str]:
    """The status of our ticket that a Case's new status means, or the comment that says what no status of ours can."""
    meant = statuses_back(settings).get(status)
    return (meant, "") if meant else (None, said_by(by, f"The Case was set to {status}."))


def said_by(who: str, words: str) -> str:
    """A comment from outside with who said it; "" for one without words."""
    said = _plain(words)
    return f"{_plain(who) or 'somebody'} in Salesforce: {said}"[:COMMENT_CHARACTERS_MAX] if said else ""


def _is_echo(data: _Data, settings: CrmSettings) -> bool:
    """Whether we made this change: each of ours writes the marker or signs its comment; nobody else has reason to."""
    if settings.username and data.changed_by.casefold() == settings.username.casefold():
        return True
    return settings.marker_field in data.changed or is_ours(data.comment)


def _plain(text: str) -> str:
    """A text from outside without control characters but tab and line feed."""
    return _CONTROL.sub("", text).strip()
