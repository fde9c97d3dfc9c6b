"""Lets a request through to its handler only as the route declares; what declares nothing is refused (SPEC R7.2).

It is a middleware in pure ASGI: Litestar's guards copy the route handler for every request, and do not see mounted
ASGI applications (LESSONS H11).
"""

from collections.abc import Callable
from typing import Any, Final

from litestar.di import NamedDependency, Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from busbar.auth.actor import Actor, Context
from busbar.auth.service import Auth
from busbar.auth.tokens import TOKEN_BYTES_MAX
from busbar.errors import BadToken, Forbidden, Unauthenticated
from busbar.observability.correlation import correlation_id, new_correlation_id, traceparent
from busbar.web.access import ANYONE, AUTHENTICATED, PERMISSION_KEY, SIGNED, declared
from busbar.web.asgi import exchange_of

ANONYMOUS: Final = Actor(user_id="anonymous", username="anonymous")
"""The actor of a request to an open route."""

RequestContext = NamedDependency[Context]
"""How a route asks for its `Context`: by an argument `ctx: RequestContext`."""

_OPEN: Final = frozenset({declared(ANYONE), declared(SIGNED)})
_AUTHENTICATED: Final = declared(AUTHENTICATED)
_SCHEME: Final = b"bearer "


def access_middleware(auth: Auth) -> Callable[[ASGIApp], ASGIApp]:
    """For `Litestar(middleware=[...])`, as the first.

    It answers 403 where the route declares nothing, 401 (AUTH_001, AUTH_002) without a valid token, 403 (AUTH_003)
    without the permission; else the actor is in `request.user` and the token's claims in `request.auth`.
    """

    def middleware(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            access = scope["route_handler"].opt.get(PERMISSION_KEY)
            if access is None and scope.get("method") == "OPTIONS":
                # The framework's own answer to what an address takes; nobody could declare anything for it.
                access = _AUTHENTICATED
            if not isinstance(access, str) or not access:
                raise Forbidden("This address does not declare who may use it, so nobody may.")
            if access in _OPEN:
                scope["user"], scope["auth"] = ANONYMOUS, None
            else:
                actor, claims = await auth.authenticate(bearer_token(scope))
                if access != _AUTHENTICATED and not actor.may(access):
                    raise Forbidden(f"This needs the permission {access}.")
                scope["user"], scope["auth"] = actor, claims
                if (exchange := exchange_of(scope)) is not None:
                    exchange.user_id = actor.user_id
            await app(scope, receive, send)

        return guarded

    return middleware


def bearer_token(scope: Scope) -> bytes:
    """The token in the request's one Authorization header; tokens in the address or in cookies are not looked at.

    Raises:
        Unauthenticated: there is no such header.
        BadToken: there are two, it is too long, or not of the form `Bearer <token>`.
    """
    value: bytes | None = None
    for name, content in scope["headers"]:
        if name == b"authorization":
            if value is not None:
                raise BadToken("Send one Authorization header.")
            value = content
    if value is None:
        raise Unauthenticated("Sign in first: this needs the header `Authorization: Bearer <token>`.")
    if len(value) > TOKEN_BYTES_MAX + len(_SCHEME):
        raise BadToken("The token is too long.")
    if value[: len(_SCHEME)].lower() != _SCHEME:
        raise BadToken("Send the token as `Authorization: Bearer <token>`.")
    return value[len(_SCHEME) :]


def auth_dependencies(auth: Auth) -> dict[str, Provide]:
    """For `Litestar(dependencies=...)`: `ctx`, the context of the request, and `auth`, the identity service."""

    def provide_context(scope: Scope) -> Context:
        return Context(
            actor=scope.get("user") or ANONYMOUS,
            correlation_id=correlation_id() or new_correlation_id(),
            clock=auth.clock,
            traceparent=traceparent(),
        )

    def provide_auth() -> Any:
        return auth

    return {
        "ctx": Provide(provide_context, sync_to_thread=False),
        "auth": Provide(provide_auth, sync_to_thread=False),
    }
