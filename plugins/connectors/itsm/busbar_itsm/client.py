"""A client of the ServiceNow Table API for one instance: find, get, create and update records.

It imports nothing of Busbar. The caller brings the aiohttp session, and with it the rules about where it may connect.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp

from busbar_itsm import calls
from busbar_itsm.answers import (
    AuthExpired,
    QueryIgnored,
    Record,
    RecordGone,
    Refused,
    RemoteUnavailable,
    checked_record,
    cut,
    error_of,
    json_object,
    message_of,
)
from busbar_itsm.calls import Call

BODY_BYTES_MAX = 1024 * 1024
NO_RECORD_FOUND = "No Record found"


class Auth(Protocol):
    """How a request proves who sends it."""

    async def header(self, client: "TableClient") -> str:
        """The value of the Authorization header."""

    def renew(self, rejected: str) -> bool:
        """Forget the rejected header value; True if asking again may give a better one."""


class BasicAuth:
    """User name and password, sent with every request."""

    def __init__(self, username: str, password: str) -> None:
        self._value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def header(self, client: "TableClient") -> str:
        return self._value

    def renew(self, rejected: str) -> bool:
        return False


class ClientCredentials:
    """OAuth 2.0 client credentials: a bearer token from `/oauth_token.do`, kept until shortly before it expires.

    Keep one object for as long as the endpoint lives; it holds the token. `clock` is monotonic seconds.
    """

    EXPIRY_MARGIN_S = 30.0
    LIFE_S_DEFAULT = 1800.0

    def __init__(
        self, client_id: str, client_secret: str, *, scope: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        if scope:
            self._form["scope"] = scope
        self._clock = clock
        self._value = ""
        self._expires_at = 0.0
        self._fetching = asyncio.Lock()

    async def header(self, client: "TableClient") -> str:
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

    async def _fetch(self, client: "TableClient") -> None:
        status, headers, body = await client.send("POST", "/oauth_token.do", form=self._form)
        if status in (400, 401, 403):
            raise AuthExpired(f"The token endpoint refused the client credentials ({status}: {message_of(body)})")
        if status != 200:
            raise error_of(status, headers, body)
        answer = json_object(body)
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise RemoteUnavailable("The token endpoint answered without an access_token.")
        life = answer.get("expires_in")
        life_s = float(life) if isinstance(life, int | float) else self.LIFE_S_DEFAULT
        self._value = f"Bearer {token}"
        self._expires_at = self._clock() + max(life_s - self.EXPIRY_MARGIN_S, 0.0)


class TableClient:
    """The Table API of one instance.

    `base_url` is the root of the instance, such as `https://dev12345.service-now.com`. `api_version` may be "v1",
    "v2" or "" for the instance's latest. `timeout_s` bounds one request from connect to the last byte; the session's
    other timeouts stay. Every method takes extra `headers` to forward, such as X-Correlation-ID, and raises the errors
    of answers.py; what the session raises beyond aiohttp's errors, such as a forbidden address, passes through.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        auth: Auth,
        *,
        timeout_s: float = 30.0,
        api_version: str = "",
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._auth = auth
        limits = session.timeout
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s,
            connect=limits.connect,
            sock_connect=limits.sock_connect,
            sock_read=limits.sock_read,
        )
        self._root = f"/api/now/{api_version}/table" if api_version else "/api/now/table"
        self._body_bytes_max = body_bytes_max

    async def find(
        self,
        table: str,
        query: Mapping[str, str],
        *,
        fields: Sequence[str] = (),
        limit: int = 10,
        order_by: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> list[Record]:
        """Return up to `limit` records whose fields equal every value of `query`; all fields when `fields` is empty.

        Every returned record is compared with the query, because the real API silently drops what it does not
        understand. An empty list may also mean that an access rule hides the records. Raises QueryIgnored.
        """
        asked = calls.find(table, query, fields=fields, limit=limit, order_by=order_by, root=self._root)
        try:
            records = await self._call("GET", asked, headers=headers)
        except RecordGone as gone:
            # API v1 answers 404 where v2 answers an empty list.
            if NO_RECORD_FOUND in str(gone):
                return []
            raise
        if not isinstance(records, list):
            raise RemoteUnavailable("The answer to a query holds no list of records.")
        return [record for record in map(checked_record, records) if _matches(record, query)]

    async def get(
        self, table: str, sys_id: str, *, fields: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> Record | None:
        """Return one record, or None if it does not exist or is hidden from us."""
        asked = calls.get(table, sys_id, fields=fields, root=self._root)
        try:
            return checked_record(await self._call("GET", asked, headers=headers))
        except RecordGone:
            return None

    async def create(
        self, table: str, record: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> Record:
        """Create a record and return it as stored. The instance does not prevent duplicates: look before creating."""
        asked = Call(path=calls.table_path(table, root=self._root), body=record)
        return checked_record(await self._call("POST", asked, headers=headers))

    async def update(
        self, table: str, sys_id: str, fields: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> Record:
        """Change the given fields ("" clears one) and return the whole record. Raises RecordGone if it is not there."""
        asked = Call(path=calls.record_path(table, sys_id, root=self._root), body=fields)
        return checked_record(await self._call("PATCH", asked, headers=headers))

    async def _call(self, method: str, asked: Call, *, headers: Mapping[str, str] | None) -> Any:
        """Send with authorization, once more after a 401 if the token can be renewed; return the `result` member."""
        for may_renew in (True, False):
            authorization = await self._auth.header(self)
            sent = {**(headers or {}), "Accept": "application/json", "Authorization": authorization}
            status, answered, content = await self.send(
                method, asked.path, params=asked.query, headers=sent, json=asked.body
            )
            if status != 401:
                break
            if not (self._auth.renew(authorization) and may_renew):
                raise AuthExpired(f"The instance does not accept our credentials ({message_of(content)})")
        if status not in (200, 201):
            raise error_of(status, answered, content)
        answer = json_object(content)
        if "result" not in answer:
            raise RemoteUnavailable(f"The answer holds no result ({message_of(content)})")
        return answer["result"]

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and return status, headers and body. Raises RemoteUnavailable when no answer arrives."""
        try:
            async with self._session.request(
                method,
                self._base_url + path,
                params=params,
                headers=headers,
                json=json,
                data=form,
                timeout=self._timeout,
                # Followed, a redirect could carry our credentials to a login page or another host.
                allow_redirects=False,
            ) as response:
                return response.status, response.headers, await self._read_bounded(response)
        except aiohttp.InvalidURL as error:
            raise Refused(f"{self._base_url} is no usable address.") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise RemoteUnavailable(f"No connection: {cut(str(error))}", uncertain=False) from error
        except TimeoutError as error:
            raise RemoteUnavailable(f"No answer within {self._timeout.total:g} s.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RemoteUnavailable(f"No answer: {type(error).__name__}: {cut(str(error))}") from error

    async def _read_bounded(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > self._body_bytes_max:
                response.close()
                raise RemoteUnavailable(f"The answer is longer than {self._body_bytes_max} bytes.")
        return bytes(body)


def _matches(record: Record, query: Mapping[str, str]) -> bool:
    """Tell if the record has the very values; raises QueryIgnored if they differ by more than letter case."""
    for name, value in query.items():
        found = record.get(name)
        if not isinstance(found, str) or found.casefold() != value.casefold():
            raise QueryIgnored(f"Asked for {name}={value}, got a record with {cut(repr(found))}: condition ignored.")
        if found != value:
            # Some instances compare without regard to letter case.
            return False
    return True
