"""An independent consumer of the events: it follows the live stream over HTTP, and resumes wherever it was cut off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from acceptance.processes import PASSWORD


class Consumer:
    """What was seen so far, in order; `events` are CloudEvents."""

    def __init__(self, url: str, password: str) -> None:
        self._url, self._password = url, password
        self._after = 0
        self.events: list[dict[str, Any]] = []

    def of(self, correlation_id: str) -> list[dict[str, Any]]:
        """The events with this correlation id."""
        return [event for event in self.events if event["correlationid"] == correlation_id]

    async def follow(self) -> None:
        """Follow until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        async with aiohttp.ClientSession(self._url, timeout=timeout) as session:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError, KeyError):
                    await self._once(session)
                await asyncio.sleep(0.1)

    async def _once(self, session: aiohttp.ClientSession) -> None:
        sign_in = {"username": "admin", "password": self._password}
        async with session.post("/api/v1/auth/login", json=sign_in) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get(f"/api/v1/events/stream?after={self._after}", headers=headers) as answer:
            answer.raise_for_status()
            position = 0
            async for line in answer.content:
                name, _, value = line.decode().strip().partition(": ")
                if name == "id":
                    position = int(value)
                elif name == "data":
                    assert position > self._after, f"position {position} comes after {self._after}"
                    self._after = position
                    self.events.append(json.loads(value))


@asynccontextmanager
async def following(url: str, *, password: str = PASSWORD) -> AsyncIterator[Consumer]:
    """A consumer that follows for the time of the block."""
    consumer = Consumer(url, password)
    task = asyncio.create_task(consumer.follow())
    try:
        yield consumer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
