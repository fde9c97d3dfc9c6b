"""Who may use the simulated organization: one integration user, one client app, and the sessions it was given."""

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from hmac import compare_digest
from urllib.parse import parse_qs

import jwt
import msgspec

from busbar_crm.simulator.messages import expired_session, oauth_error
from connector_simulation import ApiRequest, ApiResponse, answer

ORGANIZATION_ID = "00DBB0000000001MAA"
INTEGRATION_USER_ID = "005BB0000000001YAA"
AGENT_ID = "005BB0000000002YAA"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
ASSERTION_LIFE_S_MAX = 180
SESSIONS_MAX = 10_000


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller must know. There are no fixed defaults: what is not given is made up at start."""

    username: str = "busbar.integration@utility.example"
    client_id: str = msgspec.field(default_factory=lambda: f"3MVG9{secrets.token_urlsafe(48)}")
    client_secret: str = msgspec.field(default_factory=lambda: secrets.token_hex(32).upper())


class Accounts:
    """Hands out sessions that live `session_life_s` after their last use, and checks them."""

    def __init__(
        self, credentials: Credentials, *, public_key: str | None, session_life_s: int, clock: Callable[[], datetime]
    ) -> None:
        self.credentials = credentials
        self._public_key = public_key
        self._session_life_s = session_life_s
        self._clock = clock
        self._expiries: dict[str, float] = {}

    def user_of(self, authorization: str) -> str:
        """The id of the user. Raises ApiError 401."""
        scheme, _, token = authorization.partition(" ")
        now_s = self._clock().timestamp()
        if scheme not in ("Bearer", "OAuth") or self._expiries.get(token, 0.0) <= now_s:
            raise expired_session()
        self._expiries[token] = now_s + self._session_life_s
        return INTEGRATION_USER_ID

    def end_sessions(self) -> None:
        """Make every session invalid at once, as an administrator can."""
        self._expiries.clear()

    def new_session(self) -> str:
        """A session id of the integration user."""
        now_s = self._clock().timestamp()
        if len(self._expiries) >= SESSIONS_MAX:
            self._expiries = {token: at for token, at in self._expiries.items() if at > now_s}
        token = f"{ORGANIZATION_ID[:15]}!{secrets.token_hex(40)}"
        self._expiries[token] = now_s + self._session_life_s
        return token

    def grant(self, request: ApiRequest) -> ApiResponse:
        """Answer POST /services/oauth2/token for client credentials and JWT bearer."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode(errors="replace")).items()}
        grant_type = form.get("grant_type")
        if grant_type == "client_credentials":
            refusal = self._check_client(form, request.headers.get("Authorization", ""))
        elif grant_type == JWT_BEARER:
            refusal = self._check_assertion(form.get("assertion", ""), request.base_url)
        else:
            refusal = oauth_error(400, "unsupported_grant_type", "grant type not supported")
        if refusal is not None:
            return refusal
        identity = f"{request.base_url}/id/{ORGANIZATION_ID}/{INTEGRATION_USER_ID}"
        document = {
            "access_token": self.new_session(),
            "signature": base64.b64encode(secrets.token_bytes(32)).decode(),
            "scope": "api",
            "instance_url": request.base_url,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": str(int(self._clock().timestamp() * 1000)),
        }
        return answer(200, document, headers={"Cache-Control": "no-store"})

    def _check_client(self, form: Mapping[str, str], authorization: str) -> ApiResponse | None:
        client_id, client_secret = _client_of(form, authorization)
        if not compare_digest(client_id.encode(), self.credentials.client_id.encode()):
            return oauth_error(400, "invalid_client_id", "client identifier invalid")
        if not compare_digest(client_secret.encode(), self.credentials.client_secret.encode()):
            return oauth_error(400, "invalid_client", "invalid client credentials")
        return None

    def _check_assertion(self, assertion: str, base_url: str) -> ApiResponse | None:
        if self._public_key is None:
            return oauth_error(400, "invalid_grant", "no certificate is set for this client app")
        try:
            # The times are checked below, by the simulator's own clock.
            claims = jwt.decode(
                assertion,
                self._public_key,
                algorithms=["RS256"],
                audience=[*AUDIENCES, base_url],
                options={"require": ["iss", "sub", "aud", "exp"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidAudienceError:
            return oauth_error(400, "invalid_grant", "audience is invalid")
        except jwt.PyJWTError:
            return oauth_error(400, "invalid_grant", "invalid assertion")
        if claims["iss"] != self.credentials.client_id:
            return oauth_error(400, "invalid_client_id", "client identifier invalid")
        if claims["sub"] != self.credentials.username:
            return oauth_error(400, "invalid_grant", "user hasn't approved this consumer")
        now_s, expiry = self._clock().timestamp(), claims["exp"]
        if not isinstance(expiry, int) or not now_s < expiry <= now_s + ASSERTION_LIFE_S_MAX:
            return oauth_error(400, "invalid_grant", "expired authorization code")
        return None


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
