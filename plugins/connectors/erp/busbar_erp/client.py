"""A client of SAP's OData V2 services of one system: read, create, change, call functions, send change sets.

It imports nothing of Busbar. The caller brings the aiohttp session, and with it the rules about where it may connect;
the session must keep cookies, because a CSRF token is worth nothing without the cookie that came with it.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from busbar_erp import calls, multipart
from busbar_erp.answers import (
    AuthExpired,
    Entity,
    NotThere,
    Refused,
    RemoteUnavailable,
    cut,
    document_of,
    entities_of,
    entity_of,
    error_of,
)
from busbar_erp.auth import Auth, CsrfToken
from busbar_erp.calls import Call, Key, body_of_checked, key_path, set_of
from busbar_erp.model import services
from busbar_erp.multipart import HttpAnswer, HttpRequest

BODY_BYTES_MAX = 4 * 1024 * 1024
WRITES = ("POST", "PATCH", "PUT", "DELETE")
SETTLE_TIMEOUTS = 2.0
"""After a write that was not answered in time, so many times the timeout is waited before the next look."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a change set."""

    entity_set: str
    key: Key
    fields: Mapping[str, Any]
    etag: str | None


class ODataClient:
    """The OData services of one system.

    `base_url` is its root, such as `https://s4.example.com:44300`. `timeout_s` bounds one request from connect to the
    last byte. Every method takes extra `headers` to forward, such as X-Correlation-ID, and raises the errors of
    answers.py; what the session raises beyond aiohttp's errors, such as a forbidden address, passes through.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        auth: Auth,
        *,
        csrf: CsrfToken,
        sap_client: str = "",
        language: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._auth = auth
        self._csrf = csrf
        self._system = {name: text for name, text in (("sap-client", sap_client), ("sap-language", language)) if text}
        limits = session.timeout
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_s, connect=limits.connect, sock_connect=limits.sock_connect, sock_read=limits.sock_read
        )

    async def find(
        self,
        service: str,
        entity_set: str,
        equal: Key | None = None,
        *,
        conditions: Sequence[str] = (),
        select: Sequence[str] = (),
        expand: Sequence[str] = (),
        order_by: str = "",
        top: int = 50,
        skip: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> list[Entity]:
        """Up to `top` entities whose fields equal every value of `equal` and meet the conditions, each a $filter."""
        asked = calls.find(
            service,
            entity_set,
            equal,
            conditions=conditions,
            select=select,
            expand=expand,
            order_by=order_by,
            top=top,
            skip=skip,
        )
        answer = await self.request("GET", asked.path, query=asked.query, headers=headers)
        return entities_of(document_of(answer.body))

    async def get(
        self,
        service: str,
        entity_set: str,
        key: Key,
        *,
        expand: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Entity | None:
        """One entity, or None if it does not exist."""
        asked = calls.get(service, entity_set, key, expand=expand)
        try:
            answer = await self.request("GET", asked.path, query=asked.query, headers=headers)
            return entity_of(document_of(answer.body))
        except NotThere:
            return None

    async def create(
        self, service: str, entity_set: str, fields: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> Entity:
        """Create an entity, with those below it that `fields` has under its navigations, and return it as stored.

        SAP does not prevent duplicates: look before creating.
        """
        answer = await self._write("POST", calls.create(service, entity_set, fields), service, headers=headers)
        return entity_of(document_of(answer.body))

    async def update(
        self,
        service: str,
        entity_set: str,
        key: Key,
        fields: Mapping[str, Any],
        *,
        etag: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Change the given fields of the version that `etag` names. Raises Stale if there is a newer one."""
        asked = calls.update(service, entity_set, key, fields)
        sent = {**(headers or {}), **({"If-Match": etag} if etag else {})}
        await self._write("PATCH", asked, service, headers=sent)

    async def call(
        self,
        service: str,
        function: str,
        arguments: Key,
        *,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Entity:
        """Call a function import with POST, and return what it gives back."""
        sent = {**(headers or {}), **({"If-Match": etag} if etag else {})}
        answer = await self._write("POST", calls.function(service, function, arguments), service, headers=sent)
        if not answer.body:
            return {}
        found = document_of(answer.body)
        # A function without an entity gives its result under its own name.
        if isinstance(found, dict) and isinstance(found.get(function), dict):
            return dict(found[function])
        return entity_of(found)

    async def change_all(
        self, service: str, changes: Sequence[Change], *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Carry out all changes or none: one change set in a `$batch`. Raises the error of the first that failed."""
        parts = []
        for number, change in enumerate(changes, start=1):
            kind = set_of(service, change.entity_set)
            body = _encode(body_of_checked(kind, change.fields))
            inner = {"Content-Type": "application/json", "Accept": "application/json", "Content-Length": str(len(body))}
            if change.etag:
                inner["If-Match"] = change.etag
            request = HttpRequest(method="PATCH", target=key_path(kind, change.key), headers=inner, body=body)
            parts.append((_frame(str(number)), multipart.request_bytes(request)))
        changeset, outer = f"changeset_{secrets.token_hex(8)}", f"batch_{secrets.token_hex(8)}"
        frame = {"Content-Type": f"multipart/mixed; boundary={changeset}"}
        body = multipart.join([(frame, multipart.join(parts, changeset))], outer)
        sent = {**(headers or {}), "Content-Type": f"multipart/mixed; boundary={outer}", "Accept": "multipart/mixed"}
        answer = await self.request(
            "POST", f"{services()[service].path}/$batch", body=body, headers=sent, service=service
        )
        for one in _answers(answer):
            if one.status >= 300:
                raise error_of(one.status, one.headers, one.body)

    async def _write(
        self, method: str, asked: Call, service: str, *, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        body = None if asked.body is None else _encode(asked.body)
        return await self.request(method, asked.path, query=asked.query, body=body, headers=headers, service=service)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        service: str = "",
    ) -> HttpAnswer:
        """Send with authorization, and for a write with the CSRF token of `service`; once more if either has expired.

        Returns an answer that is a success. Raises the errors of answers.py.
        """
        renewed: set[str] = set()
        while True:
            authorization = await self._auth.header(self)
            sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
            sent["Authorization"] = authorization
            token = ""
            if method in WRITES:
                token = await self._csrf.get(self, services()[service].path)
                sent["X-CSRF-Token"] = token
            answer = await self.send(method, path, query=query, body=body, headers=sent)
            if answer.status < 300:
                return answer
            if answer.status == 401:
                if not self._auth.renew(authorization) or "authorization" in renewed:
                    raise AuthExpired(f"The system does not accept our credentials ({_said(answer)})")
                renewed.add("authorization")
            elif method in WRITES and _wants_token(answer):
                self._csrf.forget(token)
                if "csrf" in renewed:
                    raise RemoteUnavailable("The system refuses each CSRF token that it gives.", uncertain=False)
                renewed.add("csrf")
            else:
                raise error_of(answer.status, answer.headers, answer.body)

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Send one request, whatever the answer is. Raises RemoteUnavailable when none arrives."""
        # quote_via: SAP Gateway reads a plus in a filter as a plus.
        asked = urlencode({**self._system, **(query or {})}, quote_via=quote, safe="$,'()")
        try:
            address = URL(f"{self._base_url}{path}" + (f"?{asked}" if asked else ""), encoded=True)
            async with self._session.request(
                method,
                address,
                data=body,
                headers=headers,
                timeout=self._timeout,
                # Followed, a redirect could carry our credentials to a login page or another host.
                allow_redirects=False,
            ) as response:
                return HttpAnswer(status=response.status, headers=response.headers, body=await _read_bounded(response))
        except (aiohttp.InvalidURL, ValueError) as error:
            raise Refused(f"{self._base_url} is no usable address.") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise RemoteUnavailable(f"No connection: {cut(str(error))}", uncertain=False) from error
        except TimeoutError as error:
            # What was begun may still end: who looks again at once would not find it, and make a second one.
            wait_s = SETTLE_TIMEOUTS * (self._timeout.total or 0.0) if method in WRITES else None
            raise RemoteUnavailable(f"No answer within {self._timeout.total:g} s.", retry_after_s=wait_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise RemoteUnavailable(f"No answer: {type(error).__name__}: {cut(str(error))}") from error


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            response.close()
            raise RemoteUnavailable(f"The answer is longer than {BODY_BYTES_MAX} bytes.")
    return bytes(body)


def _answers(answer: HttpAnswer) -> list[HttpAnswer]:
    """The answers in a `$batch` answer; that of a failed change set stands alone."""
    found = []
    try:
        for part in multipart.split(answer.body, multipart.boundary_of(answer.headers.get("Content-Type", ""))):
            inner = [part]
            if part.content_type.lower().startswith("multipart/mixed"):
                inner = multipart.split(part.body, multipart.boundary_of(part.content_type))
            found += [multipart.read_answer(one.body) for one in inner]
    except multipart.Malformed as error:
        raise RemoteUnavailable(f"The answer to a batch cannot be read: {error}") from error
    if not found:
        raise RemoteUnavailable("The answer to a batch is empty.")
    return found


def _frame(content_id: str) -> dict[str, str]:
    return {"Content-Type": "application/http", "Content-Transfer-Encoding": "binary", "Content-ID": content_id}


def _encode(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def _wants_token(answer: HttpAnswer) -> bool:
    return answer.status == 403 and answer.headers.get("X-CSRF-Token", "").casefold() == "required"


def _said(answer: HttpAnswer) -> str:
    return cut(str(error_of(answer.status, answer.headers, answer.body)))
