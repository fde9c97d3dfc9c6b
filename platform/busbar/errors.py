"""Every error a caller may see: the base class, the table of codes, and the few errors that belong to no feature.

A feature defines its own errors beside the function that raises them, as subclasses of one of these.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One bad field of a request."""

    field: str
    """Dotted path of the field in the request, for example `location.lat` or `steps[2].customers`."""
    message: str


class BusbarError(Exception):
    """Something the caller is told about, as an `application/problem+json` document (RFC 9457).

    `detail` is one sentence that names the cause and, where there is one, the cure.
    """

    code: ClassVar[str] = "SYS_001"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class InvalidPayload(BusbarError):
    """The body, a parameter or a field has a value that cannot be accepted."""

    code, status, title = "VAL_001", 400, "Invalid payload"


class MissingField(InvalidPayload):
    """A required field is not there."""

    code, title = "VAL_002", "Missing field"


class BadFormat(InvalidPayload):
    """The body is not what its content type says, or holds characters or nesting that are refused."""

    code, title = "VAL_003", "Bad format"


class Unauthenticated(BusbarError):
    """No token was sent to a route that needs one."""

    code, status, title = "AUTH_001", 401, "Authentication required"

    def __init__(self, detail: str, **kwargs: Any) -> None:
        super().__init__(detail, **kwargs)
        self.headers.setdefault("WWW-Authenticate", 'Bearer realm="busbar"')


class BadToken(Unauthenticated):
    """The token, password or signature is wrong, expired or revoked."""

    code, title = "AUTH_002", "Authentication failed"


class Forbidden(BusbarError):
    """The caller is known and lacks the permission, or the site."""

    code, status, title = "AUTH_003", 403, "Not allowed"


class NotFound(BusbarError):
    """There is no such thing, or the caller may not know that there is."""

    code, status, title = "RES_001", 404, "Not found"


class MethodNotAllowed(BusbarError):
    """The address exists and does not take this method."""

    code, status, title = "RES_001", 405, "Method not allowed"


class Conflict(BusbarError):
    """The request collides with what is stored: a duplicate key, or work that is still going on."""

    code, status, title = "RES_002", 409, "Conflict"


class StaleVersion(Conflict):
    """Somebody else changed it since the version named in If-Match."""

    status, title = 412, "Changed meanwhile"


class PreconditionRequired(Conflict):
    """The change needs an If-Match header with the version it is based on."""

    status, title = 428, "Version required"


class RuleViolated(BusbarError):
    """A business rule forbids it; nothing was written."""

    code, status, title = "BUS_002", 422, "Business rule"


class ForbiddenTransition(RuleViolated):
    """The life cycle does not allow this move; nothing was written (SPEC R1.5)."""

    code, title = "BUS_001", "Forbidden state transition"


class TooLarge(InvalidPayload):
    """The body is larger than the route takes."""

    status, title = 413, "Too large"


class UnsupportedMediaType(BadFormat):
    """The body's content type is not one that the route reads."""

    status, title = 415, "Unsupported media type"


class TooManyRequests(BusbarError):
    """The caller sends more than it may; `Retry-After` says when to come back."""

    code, status, title = "SYS_002", 429, "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: int = 1, **kwargs: Any) -> None:
        super().__init__(detail, **kwargs)
        self.headers["Retry-After"] = str(retry_after_s)


class Unavailable(BusbarError):
    """Something that is needed is not there now, or the queue is full; nothing was written, try again."""

    code, status, title = "SYS_002", 503, "Not available"

    def __init__(self, detail: str, *, retry_after_s: int = 1, **kwargs: Any) -> None:
        super().__init__(detail, **kwargs)
        self.headers["Retry-After"] = str(retry_after_s)


class InternalError(BusbarError):
    """A fault of Busbar itself; the correlation id leads to the log line with the cause."""
