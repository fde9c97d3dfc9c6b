"""What an answer of the Salesforce REST API means: a record, or one of the errors that a caller can act on."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Record = dict[str, Any]
"""One record: field name to JSON value, null for an empty field."""

MESSAGE_CHARACTERS_MAX = 300
RETRY_AFTER_S_MAX = 24 * 3600.0
QUOTA_RETRY_S = 15 * 60.0
"""The quota counts the last 24 hours, so some of it comes back all the time, and no moment is named: ask again then."""
CONCURRENCY_RETRY_S = 30.0
LOGIN_RETRY_S = 5 * 60.0

_LOCKED = "UNABLE_TO_LOCK_ROW"
_PASSING = frozenset({_LOCKED, "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "QUERY_TIMEOUT", "DUPLICATE_VALUE"})
"""What goes away when one asks again; a duplicate value comes of two upserts at once, and the next one updates."""
_HALTED = "PROCESSING_HALTED"
_USAGE = re.compile(r"(?:^|[^-])api-usage=(\d+)/(\d+)")
_TOKEN = re.compile(r"00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]+")


class SalesforceError(Exception):
    """Something the organization, or the way to it, did not do for us."""


class AuthExpired(SalesforceError):
    """The organization does not accept our credentials; somebody must renew them."""


class QuotaExceeded(SalesforceError):
    """The organization's API requests are used up (403 REQUEST_LIMIT_EXCEEDED, not 429)."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteUnavailable(SalesforceError):
    """No usable answer: 5xx, a locked record, a timeout, a broken connection, or a body that is no Salesforce answer.

    `uncertain`: a write that ends this way may still have been carried out. It is False only if no connection came
    about, or if Salesforce itself said that it did nothing.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, uncertain: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain


class Refused(SalesforceError):
    """The organization understood and said no (4xx); the same request will be refused again."""

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NotFound(Refused):
    """There is no such record, object or external id field, or they are hidden from us (404)."""


class ManyRecords(Refused):
    """Several records carry one external id (300), so the field is not unique; nothing was written."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(f"{len(ids)} records carry the external id: {', '.join(ids)}", status=300)
        self.ids = tuple(ids)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """API requests of the whole organization in the last 24 hours."""

    used: int
    allowed: int


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    message: str = ""
    errorCode: str = ""
    fields: tuple[str, ...] = ()


def usage_of(headers: Mapping[str, str]) -> Usage | None:
    """What the header Sforce-Limit-Info says; None when it is not there."""
    match = _USAGE.search(headers.get("Sforce-Limit-Info", ""))
    return Usage(used=int(match[1]), allowed=int(match[2])) if match else None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> SalesforceError:
    """Translate an answer that is neither success nor an expired session."""
    if status == 300:
        return ManyRecords(_ids(body))
    retry_after = headers.get("Retry-After", "").strip()
    retry_after_s = min(float(retry_after), RETRY_AFTER_S_MAX) if retry_after.isdecimal() else None
    return errors_of(status, _errors(body), otherwise=message_of(body), retry_after_s=retry_after_s)


def errors_of(
    status: int, errors: Sequence[_Error], *, otherwise: str = "", retry_after_s: float | None = None
) -> SalesforceError:
    """Translate the errors of one request, or of one part of a composite request."""
    code = errors[0].errorCode if errors else ""
    message = f"{status}: {'; '.join(map(_sentence, errors)) or otherwise or 'empty body'}"
    if code == "REQUEST_LIMIT_EXCEEDED":
        is_concurrency = "concurrent" in errors[0].message.casefold()
        return QuotaExceeded(message, retry_after_s=CONCURRENCY_RETRY_S if is_concurrency else QUOTA_RETRY_S)
    if code in _PASSING:
        return RemoteUnavailable(message, retry_after_s=retry_after_s, uncertain=status >= 500)
    if status >= 500 or status in (408, 429) or not errors:
        # Without an array of errors it came from a proxy or a maintenance page, whatever its status.
        return RemoteUnavailable(message, retry_after_s=retry_after_s)
    if status == 404:
        return NotFound(message, status=status, code=code)
    return Refused(message, status=status, code=code)


def composite_results(document: Any, count: int) -> list[Record]:
    """The bodies of a composite answer's parts, in order. Raises the error of the first part that failed by itself."""
    parts = document.get("compositeResponse") if isinstance(document, dict) else None
    if not isinstance(parts, list) or len(parts) != count or not all(isinstance(part, dict) for part in parts):
        raise RemoteUnavailable("The answer to a composite request does not hold its parts.")
    failed = [part for part in parts if not 200 <= _status(part) < 300]
    for part in failed:
        body = msgspec.json.encode(part.get("body"))
        errors = _errors(body)
        if _status(part) == 300:
            raise ManyRecords(_ids(body))
        # The others were only rolled back because of this one.
        if not errors or errors[0].errorCode != _HALTED:
            raise errors_of(_status(part), errors, otherwise=message_of(body))
    if failed:
        raise RemoteUnavailable("The composite request was halted, and no part says why.", uncertain=False)
    return [part["body"] if isinstance(part.get("body"), dict) else {} for part in parts]


def is_expired_session(status: int, body: bytes) -> bool:
    """Whether the answer asks for a new token."""
    return status == 401 or any(error.errorCode == "INVALID_SESSION_ID" for error in _errors(body))


def json_document(body: bytes) -> Any:
    """A body that must be JSON. Raises RemoteUnavailable."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable(f"The answer is not JSON ({cut(body[:200].decode(errors='replace'))})") from error


def json_object(body: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises RemoteUnavailable."""
    document = json_document(body)
    if not isinstance(document, dict):
        raise RemoteUnavailable("The answer is JSON, but no object.")
    return document


def message_of(body: bytes) -> str:
    """What the organization says went wrong: its array of errors, the token endpoint's object, or the body's start."""
    if errors := _errors(body):
        return "; ".join(map(_sentence, errors))
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return cut(body[: 4 * MESSAGE_CHARACTERS_MAX].decode(errors="replace")) or "empty body"
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return cut(f"{document['error']}: {document.get('error_description', '')}".rstrip(": "))
    return "a document that names no error"


def cut(text: str) -> str:
    """A text from outside, short enough for an error, on one line, and without a session id."""
    return " ".join(_TOKEN.sub("[session id]", text).split())[:MESSAGE_CHARACTERS_MAX]


def _errors(body: bytes) -> tuple[_Error, ...]:
    try:
        return msgspec.json.decode(body, type=tuple[_Error, ...], strict=False)
    except (ValueError, RecursionError):
        return ()


def _sentence(error: _Error) -> str:
    named = f" ({', '.join(error.fields[:10])})" if error.fields else ""
    return cut(f"{error.errorCode or 'error'}{named}: {error.message}")


def _ids(body: bytes) -> list[str]:
    """The ids at the ends of the addresses that a 300 lists."""
    try:
        addresses = msgspec.json.decode(body, type=list[str])
    except (ValueError, RecursionError):
        return []
    return [cut(address.rsplit("/", 1)[-1]) for address in addresses[:20]]


def _status(part: Mapping[str, Any]) -> int:
    status = part.get("httpStatusCode")
    return status if isinstance(status, int) else 0
