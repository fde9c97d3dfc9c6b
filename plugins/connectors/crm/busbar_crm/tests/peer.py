"""Another runner in small: it carries out what was composed with nothing but HTTP (docs/how-to/run-camel.md)."""

import re
from typing import Any

import aiohttp
from yarl import URL

Composed = dict[str, Any]

_MARKER = re.compile(r"Busbar v(\d{1,9}) (-|\d{8}T\d{6}\.\d{6}Z) (-|\d{8}T\d{6}\.\d{6}Z)(?: .*)?")
Told = tuple[int, str, str]


class Peer:
    """Sends requests to one organization."""

    def __init__(self, session: aiohttp.ClientSession, root: str, *, client_id: str, client_secret: str) -> None:
        self._session = session
        self._root = root
        self._grant = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        self._token = ""

    async def carry_out(self, composed: Composed) -> dict[str, Any]:
        """Look, then send what is missing; the outcome."""
        found = await self._ask("GET", composed["look"], composed)
        marker, comment = composed["marker"], composed["comment"]
        new: Told = (marker["version"], marker["facts_at"], marker["told_at"])
        old = _read(found[marker["field"]]) if found else (0, "", "")
        if found is None or any(ours > theirs for ours, theirs in zip(new, old, strict=True)):
            return await self._tell(composed, found, new, old)
        is_late = any(ours and ours < theirs for ours, theirs in zip(new, old, strict=True))
        if comment and is_late and not await self._has(composed, found["Id"]):
            await self._ask("POST", comment, composed, body={**comment["body"], "ParentId": found["Id"]})
            return _delivered(found["Id"], "A comment was added.")
        return _delivered(found["Id"], f"Case {found['CaseNumber']} has been told of this already.")

    async def _tell(self, composed: Composed, found: Composed | None, new: Told, old: Told) -> dict[str, Any]:
        marker, comment, fields = composed["marker"], composed["comment"], dict(composed["create"])
        if found is not None:
            fields = composed["change"]["ticket"] if new[0] > old[0] else {}
            fields |= composed["change"]["facts"] if new[1] > old[1] else {}
            version, facts_at, told_at = (max(ours, theirs) for ours, theirs in zip(new, old, strict=True))
            text = f"Busbar v{version} {facts_at or '-'} {told_at or '-'} {marker['correlation_id']}"
            fields |= {marker["field"]: text[: marker["characters_max"]]}
        if comment is None:
            written = await self._ask("PATCH", composed["upsert"], composed, body=fields)
            return _delivered(found["Id"] if found else written["id"], "The Case was written.")
        parent = found["Id"] if found else "@{case.id}"
        parts = [
            {"method": "PATCH", "url": composed["upsert"]["path"], "referenceId": "case", "body": fields},
            {
                "method": "POST",
                "url": comment["path"],
                "referenceId": "comment",
                "body": {**comment["body"], "ParentId": parent},
            },
        ]
        body = {"allOrNone": True, "compositeRequest": parts}
        answer = await self._ask("POST", composed["composite"], composed, body=body)
        assert all(200 <= part["httpStatusCode"] < 300 for part in answer["compositeResponse"])
        case = answer["compositeResponse"][0]["body"]
        return _delivered(found["Id"] if found else case["id"], "Case and comment were written.")

    async def _has(self, composed: Composed, case_id: str) -> bool:
        request = composed["comments"]
        request = {**request, "query": {"q": request["query"]["q"].replace("{Id}", case_id)}}
        answer = await self._ask("GET", request, composed)
        return any(composed["comment"]["reference"] in record["CommentBody"] for record in answer["records"])

    async def _ask(self, method: str, request: Composed, composed: Composed, *, body: Any = None) -> Any:
        headers = {
            "X-Correlation-ID": composed["marker"]["correlation_id"],
            "Authorization": f"Bearer {self._token or await self._log_in()}",
        }
        address = URL(self._root + request["path"], encoded=True)
        async with self._session.request(
            method, address, params=request.get("query"), json=body, headers=headers
        ) as response:
            if response.status == 404:
                return None
            assert response.status in (200, 201, 204), await response.text()
            return await response.json() if response.status != 204 else {}

    async def _log_in(self) -> str:
        async with self._session.post(f"{self._root}/services/oauth2/token", data=self._grant) as response:
            self._token = (await response.json())["access_token"]
        return self._token


def _read(text: str | None) -> Told:
    match = _MARKER.fullmatch(text or "")
    return (0, "", "") if match is None else (int(match[1]), match[2].replace("-", ""), match[3].replace("-", ""))


def _delivered(case_id: str, detail: str) -> dict[str, Any]:
    return {"state": "delivered", "remote_id": case_id, "marker": None, "detail": detail}
