"""Another runner in small: it carries out what was composed with nothing but HTTP (docs/how-to/run-camel.md)."""

import base64
import re
from typing import Any

import aiohttp

Composed = dict[str, Any]

_DISPLAY = re.compile(r"Busbar v(\d{1,9}) (-|\d{8}T\d{6}\.\d{6}Z)(?: .*)?")


class Peer:
    """Sends requests to one instance."""

    def __init__(self, session: aiohttp.ClientSession, root: str, *, username: str, password: str) -> None:
        self._session = session
        self._root = root
        self._authorization = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def carry_out(self, composed: Composed) -> dict[str, Any]:
        """Look, then send what is missing; the outcome."""
        found = await self._known(composed) or await self._look(composed)
        if found is None:
            record = await self._ask("POST", composed["create"], composed, body=composed["create"]["body"])
            return _delivered(record, "was opened.")
        version, facts_at = _read(found["correlation_display"])
        marker, change = composed["marker"], composed["change"]
        news = {}
        if marker["version"] > version:
            news |= change["ticket"]
        if marker["facts_at"] > facts_at:
            news |= change["facts"]
        if marker["version"] <= version and marker["facts_at"] <= facts_at:
            return {**_delivered(found, "has been told of this already."), "marker": None}
        newest = f"Busbar v{max(version, marker['version'])} {max(facts_at, marker['facts_at']) or '-'}"
        display = f"{newest} {marker['correlation_id']}"[: marker["characters_max"]]
        body = change["body"] | news | {marker["field"]: display}
        place = {**change, "path": change["path"].replace("{sys_id}", found["sys_id"])}
        return _delivered(await self._ask("PATCH", place, composed, body=body), "was changed.")

    async def _known(self, composed: Composed) -> Composed | None:
        if composed["known"] is None:
            return None
        record = await self._ask("GET", composed["known"], composed)
        ours = record is not None and record["correlation_id"] in (composed["ticket_id"], "")
        return record if ours else None

    async def _look(self, composed: Composed) -> Composed | None:
        records = await self._ask("GET", composed["look"], composed) or []
        exact = [record for record in records if record["correlation_id"] == composed["ticket_id"]]
        return min(exact, key=lambda record: str(record["sys_created_on"]), default=None)

    async def _ask(self, method: str, request: Composed, composed: Composed, *, body: Any = None) -> Any:
        async with self._session.request(
            method,
            self._root + request["path"],
            params=request["query"],
            json=body,
            headers={
                "X-Correlation-ID": composed["marker"]["correlation_id"],
                "Authorization": self._authorization,
                "Accept": "application/json",
            },
        ) as response:
            if response.status == 404:
                return None
            assert response.status in (200, 201), await response.text()
            return (await response.json())["result"]


def _read(display: str) -> tuple[int, str]:
    match = _DISPLAY.fullmatch(display)
    return (0, "") if match is None else (int(match[1]), match[2].replace("-", ""))


def _delivered(record: Composed, outcome: str) -> dict[str, Any]:
    return {
        "state": "delivered",
        "remote_id": record["sys_id"],
        "marker": record.get("sys_mod_count"),
        "detail": f"{record['number']} {outcome}",
    }
