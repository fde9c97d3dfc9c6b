"""What an answer of an OData service means: entities, or one of the errors that a caller can act on."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

Entity = dict[str, Any]
"""One entity: field name to value, as JSON has it; `__metadata` holds its address and etag."""

RETRY_AFTER_S_DEFAULT = 60.0
RETRY_AFTER_S_MAX = 24 * 3600.0
LOCKED_RETRY_S = 5.0
MESSAGE_CHARACTERS_MAX = 500
DETAILS_MAX = 5

LOCK_CODES = ("M3/023", "M3/024", "M3/897")
"""Messages that say with status 400 that another user has the material open (general knowledge, not verified)."""


class SapError(Exception):
    """Something the SAP system, or the way to it, did not do for us."""


class AuthExpired(SapError):
    """The system does not accept our credentials (401); somebody must renew them."""


class RateLimited(SapError):
    """A gateway before the system lets no more through for now (429)."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteUnavailable(SapError):
    """No usable answer: 5xx, a lock, a timeout, a broken connection, or a body that is none of OData's.

    `uncertain`: a write that ends this way may still have been carried out, so look before creating again.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, uncertain: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain


class Refused(SapError):
    """The system understood and said no (4xx); the same request will be refused again."""

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NotThere(Refused):
    """The entity does not exist (404)."""


class Stale(SapError):
    """Somebody changed the entity after it was read (412): read it again."""


class FaultDocument(msgspec.Struct, frozen=True, kw_only=True):
    """SAP's error document, as far as it was there."""

    code: str
    message: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.message, *self.details]
        text = "; ".join(dict.fromkeys(word for word in words if word))
        return cut(f"{self.code}: {text}" if self.code else text)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> SapError:
    """Translate an answer that is no success; 401 and a missing CSRF token are told apart before."""
    fault = fault_of(body)
    message = f"{status}: {fault if fault is not None else _start_of(body)}"
    wait_s = retry_after_s(headers.get("Retry-After", ""))
    if status == 401:
        return AuthExpired(message)
    if status == 429:
        return RateLimited(message, retry_after_s=wait_s or RETRY_AFTER_S_DEFAULT)
    if status == 412:
        return Stale(message)
    if status == 423 or (fault is not None and fault.code.startswith(LOCK_CODES)):
        return RemoteUnavailable(message, retry_after_s=wait_s or LOCKED_RETRY_S, uncertain=False)
    if status == 503:
        # No work process took it, so nothing was done.
        return RemoteUnavailable(message, retry_after_s=wait_s, uncertain=False)
    if status >= 500 or status == 408 or status < 400:
        return RemoteUnavailable(message, retry_after_s=wait_s)
    if fault is None and status == 404:
        # A missing entity is told in SAP's document; anything else came from a proxy, or the service is not active.
        return RemoteUnavailable(message)
    code = fault.code if fault is not None else ""
    return NotThere(message, status=status, code=code) if status == 404 else Refused(message, status=status, code=code)


def fault_of(body: bytes) -> FaultDocument | None:
    """The error document in a body; None if there is none."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return None
    message = error.get("message")
    text = message.get("value") if isinstance(message, dict) else message
    inner = error.get("innererror")
    listed = inner.get("errordetails") if isinstance(inner, dict) else None
    details = [
        " ".join(str(one[key]) for key in ("propertyref", "message") if one.get(key))
        for one in (listed if isinstance(listed, list) else [])
        # SAP adds a line without a text that repeats the exception's class.
        if isinstance(one, dict) and one.get("message")
    ]
    return FaultDocument(
        code=str(error.get("code") or ""), message=str(text or ""), details=tuple(details[:DETAILS_MAX])
    )


def document_of(body: bytes) -> Any:
    """The `d` member of an answer. Raises RemoteUnavailable if it is none of OData's."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable(f"The answer is not JSON: {_start_of(body)}") from error
    if not isinstance(document, dict) or "d" not in document:
        raise RemoteUnavailable("The answer is JSON, and not one of OData V2: it has no member d.")
    return document["d"]


def entity_of(found: Any) -> Entity:
    """One entity of an answer. Raises RemoteUnavailable if it is none."""
    if not isinstance(found, dict) or "results" in found:
        raise RemoteUnavailable("The answer holds no single entity.")
    return found


def entities_of(found: Any) -> list[Entity]:
    """The entities of a collection. Raises RemoteUnavailable if it is none."""
    listed = found.get("results") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise RemoteUnavailable("The answer holds no list of entities.")
    return listed


def etag_of(entity: Mapping[str, Any]) -> str | None:
    """The etag that the entity was read with, where it is concurrency controlled."""
    metadata = entity.get("__metadata")
    etag = metadata.get("etag") if isinstance(metadata, dict) else None
    return etag if isinstance(etag, str) else None


def retry_after_s(text: str) -> float | None:
    """Seconds to wait by Retry-After (RFC 9110, 10.2.3); None if it says nothing."""
    try:
        if text.strip().isdecimal():
            wait_s = float(text)
        else:
            wait_s = parsedate_to_datetime(text).timestamp() - datetime.now(UTC).timestamp()
    except ValueError:
        return None
    return min(max(wait_s, 1.0), RETRY_AFTER_S_MAX)


def cut(text: str) -> str:
    """A text from outside, short enough for an error and on one line."""
    return " ".join(text.split())[:MESSAGE_CHARACTERS_MAX]


def _start_of(body: bytes) -> str:
    return cut(body[: 4 * MESSAGE_CHARACTERS_MAX].decode(errors="replace")) or "empty body"
