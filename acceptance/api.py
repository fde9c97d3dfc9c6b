"""A small client of Busbar's API, and of the simulator's control API."""

import asyncio
from types import TracebackType
from typing import Any, Self

import aiohttp

from acceptance.processes import PASSWORD


class Refused(AssertionError):
    """An answer that the flow did not expect."""


class Api:
    """Signs in and sends requests; `async with Api(url) as api`."""

    def __init__(self, url: str, *, username: str = "admin", password: str = PASSWORD, connections: int = 64) -> None:
        self._url, self._username, self._password = url, username, password
        self._connections = connections
        self._headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections)
        self._session = aiohttp.ClientSession(self._url, connector=connector)
        try:
            await self.sign_in()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def sign_in(self) -> None:
        """Get a token; it lives for ten minutes, so a run that is longer signs in again."""
        answer = await self.post("/api/v1/auth/login", {"username": self._username, "password": self._password})
        self._headers = {"Authorization": f"Bearer {answer['access_token']}"}

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and the decoded body of an answer."""
        async with self._session.request(method, path, json=body, headers=self._headers | headers) as answer:
            content = await answer.json(content_type=None) if answer.content_length != 0 else None
            return answer.status, content

    async def _expect(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        status, content = await self.send(method, path, body, **headers)
        if not 200 <= status < 300:
            raise Refused(f"{method} {path}: {status} {content}")
        return content

    async def get(self, path: str) -> Any:
        """GET, or Refused."""
        return await self._expect("GET", path, None, {})

    async def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """POST, or Refused."""
        return await self._expect("POST", path, body, headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Any:
        """PATCH, or Refused."""
        return await self._expect("PATCH", path, body, headers)

    async def put(self, path: str, body: Any) -> Any:
        """PUT, or Refused."""
        return await self._expect("PUT", path, body, {})

    async def drained(self, *, within_s: float) -> None:
        """Wait until no delivery is open and no event waits for the relay."""
        async with asyncio.timeout(within_s):
            while True:
                summary = await self.get("/api/v1/deliveries/summary")
                if summary["open"] == 0 and summary["events_waiting"] == 0:
                    return
                await asyncio.sleep(0.1)


class RemoteControl:
    """The simulator's control API."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to a request below /_simulator/."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self._url}/_simulator/{path}", json=body) as answer,
        ):
            if answer.status >= 300:
                raise Refused(f"simulator: {answer.status} {await answer.text()}")
            return await answer.json(content_type=None) if answer.status != 204 else None
