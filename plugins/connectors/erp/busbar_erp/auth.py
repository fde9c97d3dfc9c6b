"""How a request proves who sends it: Basic, OAuth client credentials, and the CSRF token that every write needs."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from busbar_erp.answers import AuthExpired, RemoteUnavailable, cut, error_of
from busbar_erp.multipart import HttpAnswer


class Sender(Protocol):
    """What a proof needs of the client that it is for."""

    async def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> HttpAnswer: ...

    async def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer: ...


class Auth(Protocol):
    """How a request proves who sends it."""

    async def header(self, client: Sender) -> str:
        """The value of the Authorization header."""

    def renew(self, rejected: str) -> bool:
        """Forget the rejected header value; True if asking again may give a better one."""


class BasicAuth:
    """User name and password, sent with every request."""

    def __init__(self, username: str, password: str) -> None:
        self._value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def header(self, client: Sender) -> str:
        return self._value

    def renew(self, rejected: str) -> bool:
        return False


class ClientCredentials:
    """OAuth 2.0 client credentials: a bearer token, kept until shortly before it expires.

    Keep one object for as long as the endpoint lives; it holds the token. `clock` is monotonic seconds.
    """

    EXPIRY_MARGIN_S = 30.0
    LIFE_S_DEFAULT = 1800.0

    def __init__(
        self, client_id: str, client_secret: str, *, token_path: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._basic = "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._token_path = token_path
        self._clock = clock
        self._value = ""
        self._expires_at = 0.0
        self._fetching = asyncio.Lock()

    async def header(self, client: Sender) -> str:
        # The lock lets concurrent requests share one fetch.
        async with self._fetching:
            if not self._value or self._clock() >= self._expires_at:
                await self._fetch(client)
            return self._value

    def renew(self, rejected: str) -> bool:
        # Another request may have fetched a newer token meanwhile: that one is kept.
        if rejected == self._value:
            self._value = ""
        return True

    async def _fetch(self, client: Sender) -> None:
        answer = await client.send(
            "POST",
            self._token_path,
            body=b"grant_type=client_credentials",
            headers={"Authorization": self._basic, "Content-Type": "application/x-www-form-urlencoded"},
        )
        if answer.status in (400, 401, 403):
            said = cut(answer.body[:500].decode(errors="replace"))
            raise AuthExpired(f"The token endpoint refused the client credentials ({answer.status}: {said})")
        if answer.status != 200:
            raise error_of(answer.status, answer.headers, answer.body)
        try:
            told = msgspec.json.decode(answer.body)
        except (ValueError, RecursionError) as error:
            raise RemoteUnavailable("The token endpoint answered without JSON.") from error
        token = told.get("access_token") if isinstance(told, dict) else None
        if not isinstance(token, str) or not token:
            raise RemoteUnavailable("The token endpoint answered without an access_token.")
        life = told.get("expires_in")
        life_s = float(life) if isinstance(life, int | float) else self.LIFE_S_DEFAULT
        self._value = f"Bearer {token}"
        self._expires_at = self._clock() + max(life_s - self.EXPIRY_MARGIN_S, 0.0)


class CsrfToken:
    """The token that writes carry; it belongs to the session cookie, which the HTTP session's jar keeps.

    Keep one object for as long as the HTTP session lives. A token serves all services of a system.
    """

    FETCH = "Fetch"
    REQUIRED = "Required"

    def __init__(self) -> None:
        self.value = ""
        self._fetching = asyncio.Lock()

    async def get(self, client: Sender, service_path: str) -> str:
        """The token, fetched with a GET of the service's root if there is none. Raises the errors of answers.py."""
        async with self._fetching:
            if not self.value:
                answer = await client.request("GET", f"{service_path}/", headers={"X-CSRF-Token": self.FETCH})
                self.value = answer.headers.get("X-CSRF-Token", "")
                if not self.value or self.value == self.REQUIRED:
                    self.value = ""
                    raise RemoteUnavailable(f"{service_path} gave no CSRF token.", uncertain=False)
            return self.value

    def forget(self, rejected: str) -> None:
        """Drop a token that was refused, unless a newer one is here already."""
        if self.value == rejected:
            self.value = ""
