"""A client of the Salesforce REST API for one organization: look, upsert, composite requests and queries.

It imports nothing of Busbar. The caller brings the aiohttp session, and with it the rules about where it may connect.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from busbar_crm.answers import (
    AuthExpired,
    NotFound,
    Record,
    Refused,
    RemoteUnavailable,
    Usage,
    composite_results,
    cut,
    error_of,
    is_expired_session,
    json_document,
    json_object,
    message_of,
    usage_of,
)
from busbar_crm.oauth import Session

BODY_BYTES_MAX = 4 * 1024 * 1024
PARTS_MAX = 25
PAGES_MAX = 20
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


class Upserted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an upsert."""

    id: str
    """"" where the organization does not tell: an update by an API version before 46."""
    created: bool


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a composite request; its body may refer to an earlier one as `@{<its reference>.id}`."""

    method: str
    path: str
    """Below /services/data/<version>/, as `SalesforceClient.path` makes it."""
    reference: str
    body: Record


class SalesforceClient:
    """The REST API of one organization.

    `base_url` is its My Domain, such as `https://utility.my.salesforce.com`; `api_version` is as in `v64.0`. `headers`
    go along with every request, such as X-Correlation-ID. `timeout_s` bounds one request from connect to the last byte.
    Every method raises the errors of answers.py; what the session raises beyond aiohttp's errors, such as a forbidden
    address, passes through.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: str,
        session: Session,
        *,
        api_version: str,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._session = session
        self._headers = dict(headers or {})
        limits = http.timeout
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s,
            connect=limits.connect,
            sock_connect=limits.sock_connect,
            sock_read=limits.sock_read,
        )
        self._api_version = api_version
        self._body_bytes_max = body_bytes_max
        self.usage: Usage | None = None
        """What the latest answer said of the organization's quota."""

    def path(self, *names: str) -> str:
        """A path of the API, with each name encoded."""
        return path_of(self._api_version, *names)

    async def user_id(self) -> str:
        """Id of the user that we act as."""
        await self._session.token(self)
        return self._session.user_id

    async def get(self, kind: str, field: str, value: str, *, fields: Sequence[str]) -> Record | None:
        """The record of an object with this external id, or None. Raises ManyRecords."""
        path = self.path("sobjects", _name(kind), _name(field), value)
        try:
            record = json_object(await self._call("GET", path, params={"fields": wanted(fields)}))
        except NotFound:
            return None
        if not isinstance(record.get("Id"), str):
            raise RemoteUnavailable("The answer holds no record with an Id.")
        return record

    async def upsert(self, kind: str, field: str, value: str, record: Record) -> Upserted:
        """Create the record with this external id, or change it; a repeat is the same effect. Raises ManyRecords."""
        path = self.path("sobjects", _name(kind), _name(field), value)
        content = await self._call("PATCH", path, body=record)
        return upserted(json_object(content) if content else {})

    async def create(self, kind: str, record: Record) -> str:
        """Create a record and return its id; a repeat creates another."""
        answer = json_object(await self._call("POST", self.path("sobjects", _name(kind)), body=record))
        return id_of(answer)

    async def composite(self, parts: Sequence[Part]) -> list[Record]:
        """Carry out all parts or none, and return their bodies in order. Raises the error of the part that failed."""
        if not 1 <= len(parts) <= PARTS_MAX:
            raise Refused(f"A composite request has 1 to {PARTS_MAX} parts, not {len(parts)}.")
        asked = [
            {"method": part.method, "url": part.path, "referenceId": part.reference, "body": part.body}
            for part in parts
        ]
        body = {"allOrNone": True, "compositeRequest": asked}
        return composite_results(json_document(await self._call("POST", self.path("composite"), body=body)), len(parts))

    async def query(self, soql: str, *, records_max: int) -> list[Record]:
        """The records that a query finds, following its pages up to `records_max`."""
        answer = json_object(await self._call("GET", self.path("query"), params={"q": soql}))
        found = _records(answer)
        for _ in range(PAGES_MAX):
            following = answer.get("nextRecordsUrl")
            if answer.get("done", True) or len(found) >= records_max or not isinstance(following, str):
                break
            if not following.startswith(self.path("")):
                raise RemoteUnavailable("The answer's next page is not below the API's own address.")
            answer = json_object(await self._call("GET", following))
            found += _records(answer)
        return found[:records_max]

    async def limits(self) -> dict[str, Any]:
        """The organization's limits, each with Max and Remaining."""
        return json_object(await self._call("GET", self.path("limits")))

    async def _call(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Record | None = None
    ) -> bytes:
        """Send with a token, once more with a new one after an expired session; return the body of a success."""
        for may_renew in (True, False):
            token = await self._session.token(self)
            headers = {**self._headers, "Accept": "application/json", "Authorization": f"Bearer {token}"}
            status, answered, content = await self.send(method, path, params=params, headers=headers, json=body)
            if not (status in (401, 403) and is_expired_session(status, content)):
                break
            self._session.forget(token)
            if not may_renew:
                raise AuthExpired(f"The organization rejects a new session too ({message_of(content)})")
        self.usage = usage_of(answered) or self.usage
        if status not in (200, 201, 204):
            raise error_of(status, answered, content)
        return content

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and return status, headers and body. Raises RemoteUnavailable when no answer arrives."""
        try:
            async with self._http.request(
                method,
                # Already encoded: an external id may hold a slash.
                URL(self._base_url + path, encoded=True),
                params=params,
                headers=headers,
                json=json,
                data=form,
                timeout=self._timeout,
                # Followed, a redirect could carry our token to a login page or another host.
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


def path_of(api_version: str, *names: str) -> str:
    """A path of the API, with each name encoded."""
    return f"/services/data/{api_version}/" + "/".join(quote(name, safe="") for name in names)


def wanted(fields: Sequence[str]) -> str:
    """The names of the fields to read, the Id first. Raises Refused for what is no name."""
    return ",".join(map(_name, dict.fromkeys(("Id", *fields))))


def upserted(answer: Record) -> Upserted:
    """What the answer to an upsert says."""
    found = answer.get("id")
    return Upserted(id=found if isinstance(found, str) else "", created=bool(answer.get("created", False)))


def id_of(answer: Record) -> str:
    """The id in the answer to a creation. Raises RemoteUnavailable."""
    found = answer.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise RemoteUnavailable("The answer to a creation holds no id.")
    return found


def text_literal(text: str) -> str:
    """A text as a literal of SOQL; what would end it or mean something in it is escaped."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name of an object or a field.")
    return name


def _records(answer: Record) -> list[Record]:
    records = answer.get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RemoteUnavailable("The answer to a query holds no list of records.")
    return records
