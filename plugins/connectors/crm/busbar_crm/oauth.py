"""How a request proves who sends it: a token for a client secret, or for an assertion that a private key signed."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

import jwt

from busbar_crm.answers import (
    LOGIN_RETRY_S,
    AuthExpired,
    QuotaExceeded,
    RemoteUnavailable,
    error_of,
    json_object,
    message_of,
)

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - a path, not a token
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_LIFE_S = 180
"""The longest life that Salesforce accepts."""


class Grant(Protocol):
    """What is sent to the token endpoint."""

    def form(self) -> Mapping[str, str]:
        """The form of one request for a token. Raises AuthExpired for credentials that cannot be used."""


class ClientCredentials:
    """The application's id and secret; it acts as the user that it is set to run as."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}

    def form(self) -> Mapping[str, str]:
        return self._form


class JwtBearer:
    """An assertion signed with the application's private key, for one user (RFC 7523 as Salesforce takes it)."""

    def __init__(
        self, client_id: str, username: str, private_key: str, *, audience: str, clock: Callable[[], datetime]
    ) -> None:
        self._claims = {"iss": client_id, "sub": username, "aud": audience}
        self._private_key = private_key
        self._clock = clock

    def form(self) -> Mapping[str, str]:
        claims = {**self._claims, "exp": int(self._clock().timestamp()) + ASSERTION_LIFE_S}
        try:
            assertion = jwt.encode(claims, self._private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError):
            # The library's own words may quote the key.
            raise AuthExpired("The private_key is no RSA private key in PEM form") from None
        return {"grant_type": JWT_BEARER, "assertion": assertion}


class Session:
    """One token and whose it is, kept until the organization rejects it: no answer says how long it will live.

    Keep one object for as long as the endpoint lives.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._token = ""
        self._fetching = asyncio.Lock()
        self.user_id = ""
        """Id of the user that the requests act as; "" before the first token."""

    async def token(self, sender: "Sender") -> str:
        """The token, fetched if there is none. Raises AuthExpired, QuotaExceeded, RemoteUnavailable."""
        # The lock lets concurrent requests share one fetch.
        async with self._fetching:
            if not self._token:
                await self._fetch(sender)
            return self._token

    def forget(self, rejected: str) -> None:
        """Drop a token that was rejected; one that another request has fetched meanwhile is kept."""
        if rejected == self._token:
            self._token = ""

    async def _fetch(self, sender: "Sender") -> None:
        status, headers, body = await sender.send("POST", TOKEN_PATH, form=self._grant.form())
        if status in (400, 401, 403):
            said = message_of(body)
            if "rate_limit_exceeded" in said:
                raise QuotaExceeded(f"Too many log-ins ({said})", retry_after_s=LOGIN_RETRY_S)
            raise AuthExpired(f"The token endpoint refused the credentials ({status}: {said})")
        if status != 200:
            raise error_of(status, headers, body)
        answer = json_object(body)
        token, identity = answer.get("access_token"), answer.get("id")
        if not isinstance(token, str) or not token:
            raise RemoteUnavailable("The token endpoint answered without an access_token.")
        self._token = token
        # The identity address ends with the ids of organization and user.
        self.user_id = identity.rstrip("/").rsplit("/", 1)[-1] if isinstance(identity, str) else ""


class Sender(Protocol):
    """What sends one request."""

    async def send(
        self, method: str, path: str, *, form: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer. Raises RemoteUnavailable when none arrives."""
