"""Who may use the simulated system: one user, one OAuth client and its tokens, and sessions with CSRF tokens."""

import base64
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

import msgspec

from connector_simulation import ApiRequest, ApiResponse, answer

TOKEN_PATH = "/sap/bc/sec/oauth2/token"  # noqa: S105 - a path, not a token
COOKIE = "SAP_SESSIONID_SIM_100"
SESSIONS_MAX = 10_000


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller must know. There are no fixed defaults: what is not given is made up at start."""

    username: str = "BUSBAR"
    password: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(18))
    client_id: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    client_secret: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(24))


class Accounts:
    """Checks Authorization headers, hands out tokens, and keeps sessions."""

    def __init__(self, credentials: Credentials, *, token_life_s: int, clock: Callable[[], datetime]) -> None:
        self.credentials = credentials
        self._token_life_s = token_life_s
        self._clock = clock
        self._expiries: dict[str, float] = {}
        self._csrf: dict[str, str] = {}
        self._basic = _basic(credentials.username, credentials.password)
        self._client = _basic(credentials.client_id, credentials.client_secret)

    def user_of(self, authorization: str) -> str | None:
        """The user's name, or None for credentials that are not accepted."""
        if compare_digest(authorization.encode(), self._basic.encode()):
            return self.credentials.username
        scheme, _, token = authorization.partition(" ")
        if scheme == "Bearer" and self._expiries.get(token, 0.0) > self._clock().timestamp():
            return self.credentials.username
        return None

    def revoke_tokens(self) -> None:
        """Make every OAuth token invalid at once."""
        self._expiries.clear()

    def expire_sessions(self) -> None:
        """Forget every session, and with it its CSRF token."""
        self._csrf.clear()

    def grant(self, body: bytes, authorization: str) -> ApiResponse:
        """Answer a request for a token (grant_type client_credentials, RFC 6749 4.4)."""
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return answer(400, {"error": "unsupported_grant_type"})
        if not compare_digest(authorization.encode(), self._client.encode()):
            return answer(401, {"error": "invalid_client", "error_description": "access_denied"})
        token = secrets.token_urlsafe(48)
        self._expiries[token] = self._clock().timestamp() + self._token_life_s
        return answer(
            200, {"access_token": token, "token_type": "Bearer", "expires_in": self._token_life_s, "scope": "API"}
        )

    def new_session(self) -> tuple[str, str]:
        """A session id, for the cookie, and its CSRF token."""
        if len(self._csrf) >= SESSIONS_MAX:
            self._csrf.clear()
        session, token = secrets.token_urlsafe(24), secrets.token_urlsafe(18)
        self._csrf[session] = token
        return session, token

    def csrf_of(self, headers: Mapping[str, str]) -> tuple[str, str] | None:
        """Session id and CSRF token of the session that a request's cookie names, if there is one."""
        try:
            cookie: SimpleCookie = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return None
        session = cookie[COOKIE].value if COOKIE in cookie else ""
        return (session, self._csrf[session]) if session in self._csrf else None

    def may_write(self, request: ApiRequest) -> bool:
        """Whether a write carries the token of its session."""
        known = self.csrf_of(request.headers)
        sent = request.headers.get("X-CSRF-Token", "")
        return known is not None and compare_digest(known[1].encode(), sent.encode())


def _basic(name: str, word: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()
