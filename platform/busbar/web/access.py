"""How a route declares who may call it: each handler says so with `opt=`, and what says nothing is refused."""

from typing import Any, Final

from litestar.handlers.base import BaseRouteHandler

PERMISSION_KEY: Final = "permission"
"""The key in a handler's `opt` that holds the declaration."""

_ANYONE: Final = "*anyone"
_AUTHENTICATED: Final = "*authenticated"
_SIGNED: Final = "*signed"

ANYONE: Final[dict[str, Any]] = {PERMISSION_KEY: _ANYONE}
"""Open: login, refresh, health, metrics, OpenAPI and the files of the UI (SPEC R7.2)."""

AUTHENTICATED: Final[dict[str, Any]] = {PERMISSION_KEY: _AUTHENTICATED}
"""Any valid token will do: who am I, log out, what may I see."""

SIGNED: Final[dict[str, Any]] = {PERMISSION_KEY: _SIGNED}
"""An inbound webhook: no token; the handler verifies the sender's own signature before it believes anything."""


_KEYED: Final = "idempotency_key"

UNKEYED: Final[dict[str, Any]] = {_KEYED: False}
"""Added to a POST that takes no Idempotency-Key: `opt=needs("users.write") | UNKEYED`.

For requests and answers with passwords or tokens, of which not even a fingerprint is to be stored, and for effects that
must stay although the request is refused, such as a counted failure to sign in.
"""


def needs(permission: str) -> dict[str, Any]:
    """The `opt` of a route that takes `permission`, written as `<module>.<verb>`: `@get("/", opt=needs("pm.read"))`.

    Raises ValueError when it is not of that form; a typing mistake must not become a permission nobody holds.
    """
    module, dot, verb = permission.partition(".")
    words = (module, *verb.split("."))
    if not dot or not all(word and word.replace("_", "a").replace("-", "a").isalnum() for word in words):
        raise ValueError(f"A permission is written as <module>.<verb>, for example pm.read; {permission!r} is not.")
    return {PERMISSION_KEY: permission}


def declared_access(route_handler: BaseRouteHandler) -> str | None:
    """What the route declares: a permission, one of the three values below, or None, which means refused.

    The special values are `declared(ANYONE)`, `declared(AUTHENTICATED)` and `declared(SIGNED)`.
    """
    value = route_handler.opt.get(PERMISSION_KEY)
    return value if isinstance(value, str) and value else None


def declared(opt: dict[str, Any]) -> str:
    """The value inside an `opt`, for comparing with `declared_access`."""
    return str(opt[PERMISSION_KEY])


def is_open(route_handler: BaseRouteHandler) -> bool:
    """Whether the guard needs no token: ANYONE, and SIGNED routes, which check the signature by themselves."""
    return declared_access(route_handler) in (_ANYONE, _SIGNED)


def takes_key(route_handler: BaseRouteHandler) -> bool:
    """Whether an Idempotency-Key counts here. On open routes it does not: there every caller would be the same one."""
    return not is_open(route_handler) and route_handler.opt.get(_KEYED) is not False
