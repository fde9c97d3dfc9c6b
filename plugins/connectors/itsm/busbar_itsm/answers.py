"""What an answer of the Table API means: a record, or one of the errors that a caller can act on."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

Record = dict[str, Any]
"""One record: field name to value. The Table API sends every value as a string, "" for an empty field."""

RETRY_AFTER_S_DEFAULT = 60.0
RETRY_AFTER_S_MAX = 24 * 3600.0
MESSAGE_CHARACTERS_MAX = 500


class TableApiError(Exception):
    """Something the instance, or the way to it, did not do for us."""


class AuthExpired(TableApiError):
    """The instance does not accept our credentials (401); somebody must renew them."""


class RateLimited(TableApiError):
    """The quota of the current hour is used up (429)."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteUnavailable(TableApiError):
    """No usable answer: 5xx, a timeout, a broken connection, or a body that is not a Table API answer.

    `uncertain`: a write that ends this way may still have been carried out, so look before creating again. It is False
    only if no connection came about.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, uncertain: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain


class Refused(TableApiError):
    """The instance understood and said no (4xx); the same request will be refused again."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RecordGone(Refused):
    """The record does not exist, or an access rule hides it (404)."""


class QueryIgnored(Refused):
    """The instance returned records that do not match the query: it dropped a part that it did not understand.

    ServiceNow does so by default for unknown or hidden fields (unless the property
    `glide.invalid_query.returns_no_rows` is set). Believing such an answer would end in wrong or duplicate records.
    """


def checked_record(result: Any) -> Record:
    """The `result` of an answer about one record. Raises RemoteUnavailable if it is none."""
    if not isinstance(result, dict) or not isinstance(result.get("sys_id"), str) or not result["sys_id"]:
        raise RemoteUnavailable("The answer holds no record with a sys_id.")
    return result


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> TableApiError:
    """Translate an answer that is neither success nor 401."""
    message = f"{status}: {message_of(body)}"
    if status == 429:
        wait_s = _retry_after_s(headers.get("Retry-After", ""), reset=headers.get("X-RateLimit-Reset", ""))
        return RateLimited(message, retry_after_s=wait_s or RETRY_AFTER_S_DEFAULT)
    if status >= 500 or status == 408 or status < 400:
        return RemoteUnavailable(message, retry_after_s=_retry_after_s(headers.get("Retry-After", "")))
    if status == 404:
        # A missing record is told in JSON; anything else came from a proxy or a sleeping instance.
        return RecordGone(message, status=404) if _is_error_document(body) else RemoteUnavailable(message)
    return Refused(message, status=status)


def _retry_after_s(text: str, *, reset: str = "") -> float | None:
    """Seconds to wait by Retry-After (RFC 9110, 10.2.3), else by `reset` in Unix time; None if neither is said."""
    now_s = datetime.now(UTC).timestamp()
    try:
        if text.strip().isdecimal():
            wait_s = float(text)
        elif text:
            wait_s = parsedate_to_datetime(text).timestamp() - now_s
        else:
            wait_s = float(reset) - now_s
    except ValueError:
        return None
    return min(max(wait_s, 1.0), RETRY_AFTER_S_MAX)


def json_object(body: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises RemoteUnavailable."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable(f"The answer is not JSON: {message_of(body)}") from error
    if not isinstance(document, dict):
        raise RemoteUnavailable("The answer is JSON, and not an object.")
    return document


def _is_error_document(body: bytes) -> bool:
    try:
        return isinstance(json_object(body).get("error"), dict)
    except RemoteUnavailable:
        return False


def message_of(body: bytes) -> str:
    """What the instance says went wrong: the message and detail of its error document, else the start of the body."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return cut(body[: 4 * MESSAGE_CHARACTERS_MAX].decode(errors="replace")) or "empty body"
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        return cut(": ".join(str(error[key]) for key in ("message", "detail") if error.get(key)))
    if isinstance(error, str):
        return cut(str(document.get("error_description") or error))
    return "a document without an error member"


def cut(text: str) -> str:
    """A text from outside, short enough for an error and on one line."""
    return " ".join(text.split())[:MESSAGE_CHARACTERS_MAX]
