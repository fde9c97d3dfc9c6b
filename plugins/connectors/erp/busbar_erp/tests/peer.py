"""Another runner in small: it carries out what was composed with nothing but HTTP (docs/how-to/run-camel.md)."""

import base64
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

Composed = dict[str, Any]


class Peer:
    """Sends requests to one system."""

    def __init__(self, session: aiohttp.ClientSession, root: str, *, username: str, password: str) -> None:
        self._session = session
        self._root = root
        self._authorization = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def carry_out(self, composed: Composed) -> dict[str, Any]:
        """Look, then send what is missing; the outcome."""
        match composed["operation"]:
            case "create":
                return await self._create(composed)
            case "change":
                return await self._change(composed)
            case "cancel":
                return await self._cancel(composed)
        raise AssertionError(composed["operation"])

    async def _create(self, composed: Composed) -> dict[str, Any]:
        if found := await self._found(composed["look"]):
            return _delivered(composed, found[0], "SAP has it already.")
        made = await self._write("POST", composed["create"], composed)
        return _delivered(composed, made["d"], "It was made.")

    async def _change(self, composed: Composed) -> dict[str, Any]:
        found = await self._found(composed["look"])
        if not found:
            return {"state": "skipped", "detail": composed["none"]}
        for entity in found:
            if any(entity.get(name) != value for name, value in composed["change"]["body"].items()):
                etag = entity["__metadata"].get("etag")
                change = _filled(composed["change"], entity)
                await self._write("PATCH", change, composed, headers={"If-Match": etag} if etag else {})
        return _delivered(composed, found[0], "It is flagged.")

    async def _cancel(self, composed: Composed) -> dict[str, Any]:
        originals = await self._found(composed["original"])
        if not originals:
            return {"state": "dead", "detail": composed["missing"]}
        if found := await self._found(_filled(composed["look"], originals[0])):
            return _delivered(composed, found[0], "It is cancelled already.")
        made = (await self._write("POST", _filled(composed["call"], originals[0]), composed))["d"]
        return _delivered(composed, made.get("Cancel", made), "It was cancelled.")

    async def _found(self, request: Composed) -> list[Composed]:
        answer = await self._ask("GET", request, {})
        listed: list[Composed] = answer[1]["d"]["results"]
        return listed

    async def _write(
        self, method: str, request: Composed, composed: Composed, *, headers: dict[str, str] | None = None
    ) -> Any:
        token, _ = await self._ask("GET", composed["token"], {"X-CSRF-Token": "Fetch"})
        _, answer = await self._ask(method, request, {"X-CSRF-Token": token, **(headers or {})})
        return answer

    async def _ask(self, method: str, request: Composed, headers: dict[str, str]) -> tuple[str, Any]:
        asked = urlencode(request["query"], quote_via=quote)
        address = URL(f"{self._root}{quote(request['path'], safe='/%()=,$')}?{asked}", encoded=True)
        sent = {"Authorization": self._authorization, "Accept": "application/json", **headers}
        async with self._session.request(method, address, json=request.get("body"), headers=sent) as response:
            assert response.status < 300, await response.text()
            content = await response.read()
            return response.headers.get("X-CSRF-Token", ""), await response.json() if content else None


def _filled(request: Composed, entity: Composed) -> Composed:
    """The request with the entity's fields in the places that are named after them."""

    def fill(text: str) -> str:
        for name, value in entity.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    return {
        **request,
        "path": fill(request["path"]),
        "query": {name: fill(text) for name, text in request["query"].items()},
    }


def _delivered(composed: Composed, entity: Composed, detail: str) -> dict[str, Any]:
    remote_id = "/".join(str(entity[name]) for name in composed["found"])
    return {"state": "delivered", "remote_id": remote_id, "marker": None, "detail": detail}
