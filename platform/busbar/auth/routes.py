"""The HTTP side of signing in and out; `user_routes.py` is that of users and roles."""

import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from busbar.auth import commands, queries, sessions
from busbar.auth.fields import Login, Me, NewOwnPassword, Refresh, TokenPair
from busbar.auth.guards import RequestContext
from busbar.auth.limits import source_of
from busbar.auth.service import Auth
from busbar.auth.user_routes import USER_ROUTES
from busbar.errors import Unavailable
from busbar.web.access import ANYONE, AUTHENTICATED, UNKEYED

_NO_STORE = {"Cache-Control": "no-store"}
"""What holds tokens is kept by no cache (RFC 6749, section 5.1)."""


@post("/auth/login", opt=ANYONE | UNKEYED, status_code=200)
async def login(
    ctx: RequestContext, auth: NamedDependency[Auth], request: Request[Any, Any, Any], data: JSONBody[Login]
) -> Response[TokenPair]:
    """Sign in with a user name and a password.

    Wrong, unknown, locked and deactivated are answered alike. After repeated failures it answers 429 for a while.
    """
    source = source_of(request.scope, trusted_proxies=auth.settings.trusted_proxies)
    signed_in = await sessions.login(auth, ctx, username=data.username, password=data.password, source=source)
    return _token_pair(signed_in)


@post("/auth/refresh", opt=ANYONE | UNKEYED, status_code=200)
async def refresh(ctx: RequestContext, auth: NamedDependency[Auth], data: JSONBody[Refresh]) -> Response[TokenPair]:
    """Get a new access token, and the refresh token that replaces the one sent.

    The same refresh token again within ten seconds gets the same answer, in case the first was lost; later it is taken
    for stolen, and the session ends.
    """
    return _token_pair(await sessions.refresh(auth, ctx, token=data.refresh_token))


@post("/auth/logout", opt=AUTHENTICATED | UNKEYED, status_code=204)
async def logout(ctx: RequestContext, request: Request[Any, Any, Any]) -> None:
    """End the session: its refresh token at once, its access tokens within seconds."""
    await sessions.logout(ctx, family=UUID(request.auth.sid))


@get("/auth/me", opt=AUTHENTICATED)
async def who_am_i(ctx: RequestContext, request: Request[Any, Any, Any]) -> Response[Me]:
    """Tell who is signed in, and what they may do as of now."""
    actor = ctx.actor
    me = Me(
        user_id=actor.user_id,
        username=actor.username,
        display_name=await queries.display_name_of(actor.user_id),
        roles=actor.roles,
        permissions=tuple(sorted(actor.permissions)),
        sites=actor.sites,
        expires_at=datetime.fromtimestamp(request.auth.exp, UTC),
    )
    return Response(me, headers=_NO_STORE)


@post("/auth/password", opt=AUTHENTICATED | UNKEYED, status_code=204)
async def change_own_password(ctx: RequestContext, auth: NamedDependency[Auth], data: JSONBody[NewOwnPassword]) -> None:
    """Change the signed-in user's own password; all their sessions end, this one too."""
    await commands.change_own_password(auth, ctx, current=data.current_password, new=data.new_password)


@get("/.well-known/jwks.json", opt=ANYONE, tags=["Identity"])
async def key_set(auth: NamedDependency[Auth]) -> Response[dict[str, Any]]:
    """The public keys with which access tokens can be verified (RFC 7517)."""
    with contextlib.suppress(Unavailable):  # without the database the keys that are known are good
        await auth.directory.refresh_if_needed()
    return Response(auth.keys.jwks(now=auth.clock()), headers={"Cache-Control": "public, max-age=60"})


def _token_pair(signed_in: sessions.SignedIn) -> Response[TokenPair]:
    pair = TokenPair(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        token_type="Bearer",  # noqa: S106 - the name of the scheme
        expires_in=signed_in.expires_in_s,
    )
    return Response(pair, headers=_NO_STORE)


ROUTES = (login, refresh, logout, who_am_i, change_own_password, *USER_ROUTES)
"""Below /api/v1."""
ROOT_ROUTES = (key_set,)
"""At the root."""
