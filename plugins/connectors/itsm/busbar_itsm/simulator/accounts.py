"""Who may use the simulated instance: one user with a password, one OAuth client, and the tokens it was given."""

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from hmac import compare_digest
from urllib.parse import parse_qs

import msgspec

from busbar_itsm.simulator.messages import unauthorized
from connector_simulation import ApiResponse, answer

TOKENS_MAX = 10_000


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller must know. There are no fixed defaults: what is not given is made up at start."""

    username: str = "busbar.integration"
    password: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(18))
    client_id: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    client_secret: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(24))


class Accounts:
    """Checks Authorization headers and hands out tokens that live `token_life_s`."""

    def __init__(self, credentials: Credentials, *, token_life_s: int, clock: Callable[[], datetime]) -> None:
        self.credentials = credentials
        self._token_life_s = token_life_s
        self._clock = clock
        self._expiries: dict[str, float] = {}
        plain = f"{credentials.username}:{credentials.password}".encode()
        self._basic = "Basic " + base64.b64encode(plain).decode()

    def user_of(self, authorization: str) -> str:
        """The user's name. Raises ApiError 401."""
        if compare_digest(authorization.encode(), self._basic.encode()):
            return self.credentials.username
        scheme, _, token = authorization.partition(" ")
        if scheme == "Bearer" and self._expiries.get(token, 0.0) > self._clock().timestamp():
            return self.credentials.username
        raise unauthorized()

    def revoke_tokens(self) -> None:
        """Make every token invalid at once, as an administrator can."""
        self._expiries.clear()

    def grant(self, body: bytes, authorization: str) -> ApiResponse:
        """Answer POST /oauth_token.do (grant_type client_credentials, RFC 6749 4.4)."""
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is simulated")
        client_id, client_secret = _client_of(form, authorization)
        known = compare_digest(client_id.encode(), self.credentials.client_id.encode())
        if not (known and compare_digest(client_secret.encode(), self.credentials.client_secret.encode())):
            return _oauth_error(401, "invalid_client", "access_denied")
        now_s = self._clock().timestamp()
        if len(self._expiries) >= TOKENS_MAX:
            self._expiries = {token: at for token, at in self._expiries.items() if at > now_s}
        token = secrets.token_urlsafe(48)
        self._expiries[token] = now_s + self._token_life_s
        return answer(
            200,
            {
                "access_token": token,
                "scope": form.get("scope", "useraccount"),
                "token_type": "Bearer",
                "expires_in": self._token_life_s,
            },
            headers={"Cache-Control": "no-store"},
        )


def _client_of(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    """Client id and secret from the form, else from a Basic header (RFC 6749 2.3.1)."""
    if "client_id" in form or not authorization.startswith("Basic "):
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        plain = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, client_secret = plain.partition(":")
    return client_id, client_secret


def _oauth_error(status: int, error: str, description: str) -> ApiResponse:
    return answer(status, {"error": error, "error_description": description})
