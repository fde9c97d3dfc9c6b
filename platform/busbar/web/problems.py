"""Every error answer as an `application/problem+json` document (RFC 9457), whatever went wrong underneath."""

from http import HTTPStatus
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from litestar.openapi import ResponseSpec
from litestar.params import ParameterKwarg
from litestar.types import ExceptionHandlersMap

from busbar.errors import (
    BadFormat,
    BadToken,
    BusbarError,
    Conflict,
    FieldError,
    Forbidden,
    InternalError,
    InvalidPayload,
    MethodNotAllowed,
    MissingField,
    NotFound,
    PreconditionRequired,
    RuleViolated,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from busbar.observability.correlation import correlation_id
from busbar.web.text import readable

log = structlog.get_logger()

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"

_UNFORESEEN: Final = "Busbar failed at this request; the correlation id leads to the cause in its log."


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused or failed (RFC 9457)."""

    type: str
    """`urn:busbar:problem:` and the code."""
    title: str
    status: int
    detail: str
    """One sentence that names the cause and, where there is one, the cure."""
    instance: str
    """The path that was asked for."""
    code: str
    """One of the codes in the table of errors, for example `VAL_002`."""
    correlation_id: str
    """Leads to the log lines of this request."""
    errors: tuple[FieldError, ...] = ()
    """Every bad field of the request at once; empty when no single field is to blame."""


_DESCRIPTIONS: Final[dict[int, str]] = {
    400: "The request is malformed, lacks a field or has one that cannot be accepted (VAL_001, VAL_002, VAL_003).",
    401: "No valid token was sent (AUTH_001, AUTH_002).",
    403: "The caller lacks the permission or the site (AUTH_003).",
    404: "There is no such thing, or the caller may not know of it (RES_001).",
    405: "The address does not take this method; see the Allow header (RES_001).",
    408: "The body did not arrive in time (VAL_003).",
    409: "The request collides with what is stored (RES_002).",
    412: "Somebody else changed it since the version named in If-Match (RES_002).",
    413: "The body is larger than the route takes (VAL_001).",
    415: "The body's content type or encoding is not one that the route reads (VAL_003).",
    422: "A business rule or the life cycle forbids it; nothing was written (BUS_001, BUS_002).",
    428: "The change needs an If-Match header (RES_002).",
    429: "Too many requests; see the Retry-After header (SYS_002).",
    500: "A fault of Busbar; the correlation id leads to its cause (SYS_001).",
    503: "Something that is needed is not available now; see the Retry-After header (SYS_002).",
}

PROBLEM_RESPONSES: Final[dict[int, ResponseSpec]] = {
    status: ResponseSpec(
        data_container=ProblemDetails,
        generate_examples=False,
        description=description,
        media_type=PROBLEM_MEDIA_TYPE,
    )
    for status, description in _DESCRIPTIONS.items()
}
"""For `Litestar(responses=...)`: documents on every operation each error that it may answer."""


def problem_members(error: BusbarError, *, instance: str, correlation_id: str) -> dict[str, Any]:
    """The members of the document; those of the error itself cannot displace the standard ones."""
    members: dict[str, Any] = dict(error.members)
    members.update(
        type=f"urn:busbar:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=instance,
        code=error.code,
        correlation_id=correlation_id,
        errors=error.errors,
    )
    return members


def problem_response(error: BusbarError, *, instance: str) -> Response[dict[str, Any]]:
    """The error as an answer of a handler."""
    return Response(
        problem_members(error, instance=instance, correlation_id=correlation_id() or ""),
        status_code=error.status,
        headers=error.headers,
        media_type=PROBLEM_MEDIA_TYPE,
    )


def problem_message(
    error: BusbarError, *, instance: str, correlation_id: str
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of the document, for answers given below the framework."""
    body = msgspec.json.encode(problem_members(error, instance=instance, correlation_id=correlation_id))
    headers = [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return headers, body


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    told = as_busbar_error(error, request)
    if told.status >= 500 and told.status != HTTPStatus.SERVICE_UNAVAILABLE:
        log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    elif told is not error and isinstance(error, _FROM_DATABASE):
        # The caller learns only the kind of refusal; which constraint or timeout it was is for the operator.
        log.warning("database_refused", answered=told.status, cause=f"{type(error).__name__}: {error}")
    return problem_response(told, instance=request.scope["path"])


_FROM_DATABASE: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {Exception: _answer}
"""For `Litestar(exception_handlers=...)`."""


def as_busbar_error(error: Exception, request: Request[Any, Any, Any] | None = None) -> BusbarError:
    """What the caller is told about any exception; what is not foreseen becomes an internal error without its text."""
    if isinstance(error, BusbarError):
        return error
    if isinstance(error, ValidationException):
        return _from_validation(error, request)
    if isinstance(error, HTTPException):
        return _from_litestar(error)
    if isinstance(error, _FROM_DATABASE):
        return _from_database(error)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return Unavailable("Something that is needed did not answer in time; try again.")
    return InternalError(_UNFORESEEN)


_BY_STATUS: Final[dict[int, type[BusbarError]]] = {
    400: BadFormat,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: RuleViolated,
    428: PreconditionRequired,
    429: TooManyRequests,
    503: Unavailable,
}


def _from_litestar(error: HTTPException) -> BusbarError:
    headers = dict(error.headers or {})
    if isinstance(error, MethodNotAllowedException):
        return MethodNotAllowed("This address does not take this method; see the Allow header.", headers=headers)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("There is nothing at this address.", headers=headers)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge("The body is larger than this address takes.", headers=headers)
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        return BadToken(error.detail, headers=headers)
    kind = _BY_STATUS.get(error.status_code)
    if kind is not None:
        return kind(error.detail, headers=headers)
    if 400 <= error.status_code < 500:
        return BadFormat(error.detail, headers=headers)
    return InternalError(_UNFORESEEN)


def _from_validation(error: ValidationException, request: Request[Any, Any, Any] | None) -> InvalidPayload:
    """Litestar names every bad parameter in `extra`; parameters that are missing get the code for that."""
    found = error.extra if isinstance(error.extra, list) else []
    errors = tuple(
        FieldError(
            field=_public_name(str(item.get("key", "")), request),
            message=_sentence(readable(str(item.get("message", "Invalid value")))),
        )
        for item in found
        if isinstance(item, dict)
    )
    if not errors:
        return InvalidPayload(_sentence(error.detail))
    if all("required" in each.message for each in errors):
        return MissingField(f"Missing: {', '.join(each.field for each in errors)}.", errors=errors)
    return InvalidPayload(f"Not accepted: {', '.join(each.field for each in errors)}.", errors=errors)


def _public_name(key: str, request: Request[Any, Any, Any] | None) -> str:
    """What a caller calls a parameter of a handler; its Python name may be another."""
    if key == "data":
        return "body"
    handler = request.scope.get("route_handler") if request is not None else None
    definition = handler.parsed_fn_signature.parameters.get(key) if handler is not None else None
    declared = definition.kwarg_definition if definition is not None else None
    if not isinstance(declared, ParameterKwarg):
        return key
    return declared.name or declared.query or declared.header or key


def _sentence(text: str) -> str:
    return text.strip().rstrip(".") + "."


def _from_database(error: Exception) -> BusbarError:
    """By SQLSTATE class (PostgreSQL manual, appendix A); no text of the server reaches the caller."""
    if isinstance(error, asyncpg.DataError):
        # The server's class 22, and asyncpg's own refusal to encode an argument.
        return InvalidPayload("A value does not fit: it is too large, too long, or of the wrong kind.")
    if isinstance(error, asyncpg.InternalClientError):
        return Unavailable("The connection to the database was lost; try again.", retry_after_s=2)
    if isinstance(error, asyncpg.InterfaceError):
        # The same class stands for a lost connection and for a mistake in our use of the driver.
        if any(word in str(error) for word in ("closed", "closing", "released back")):
            return Unavailable("The connection to the database was lost; try again.", retry_after_s=2)
        return InternalError(_UNFORESEEN)
    state = getattr(error, "sqlstate", None) or ""
    match state:
        case "23505" | "23P01":
            return Conflict("Something with the same key is stored already.")
        case "23503":
            return Conflict("It names something that does not exist, or that is still in use.")
        case "23502" | "23514":
            return RuleViolated("A value breaks a rule of the stored data.")
        case "40001" | "40P01":
            return Unavailable("Somebody else was changing the same; try again.", retry_after_s=1)
        case "57014" | "55P03":
            return Unavailable("The database took too long; try again.", retry_after_s=2)
    if state[:2] in ("08", "53", "57", "25"):
        return Unavailable("The database is not available now; try again.", retry_after_s=2)
    return InternalError(_UNFORESEEN)
