"""A steady load of incident reports, measured as its senders feel it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from acceptance.api import Api
from acceptance.world import incident

REQUEST_S_MAX = 30.0
SIGN_IN_S = 300.0
"""A token is renewed after so long; it lives twice as long."""


class Load:
    """Reports so many incidents a second, whether or not the ones before were answered.

    Latencies count from when a report was due, so that one that had to wait for a slow one before it counts as slow.
    """

    def __init__(self, api: Api, *, per_s: float) -> None:
        self.acknowledged: list[str] = []
        self.not_taken: list[str] = []
        """What the senders of all others were told."""
        self._api, self._per_s = api, per_s
        self._numbers = itertools.count()
        self._latencies: list[float] = []
        self._signed_in_s = time.monotonic()

    async def run_for(self, seconds: float) -> list[float]:
        """Report for so long and wait for the last answers; returns the latencies of this time in seconds."""
        self._latencies = []
        if time.monotonic() - self._signed_in_s > SIGN_IN_S:
            self._signed_in_s = time.monotonic()
            await self._api.sign_in()
        count = round(seconds * self._per_s)
        began = time.monotonic()
        sending: list[asyncio.Task[None]] = []
        for n in range(count):
            due = began + n / self._per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sending.append(asyncio.create_task(self._report(due)))
        await asyncio.gather(*sending)
        return self._latencies

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Report for the time of the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping = True
            await task

    async def _run(self) -> None:
        self._stopping = False
        while not self._stopping:
            await self.run_for(0.5)

    async def _report(self, due: float) -> None:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                status, answer = await self._api.send("POST", "/api/v1/pm/incidents", incident(next(self._numbers)))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # the last: a proxy does not answer in JSON
            self.not_taken.append(repr(error))
            return
        if status == 201:
            self.acknowledged.append(answer["ticket_id"])
            self._latencies.append(time.monotonic() - due)
        else:
            self.not_taken.append(f"{status} {answer}")


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
