"""A fresh simulator, a session and a client for each test, and a clock that tests can move."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from busbar_itsm.client import BasicAuth, TableClient
from busbar_itsm.simulator import Simulator, run_simulator


class MovableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 9, 20, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def simulator(clock: MovableClock) -> AsyncIterator[Simulator]:
    async with run_simulator(clock=clock) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def basic(simulator: Simulator) -> BasicAuth:
    return BasicAuth(simulator.credentials.username, simulator.credentials.password)


@pytest.fixture
def client(session: aiohttp.ClientSession, simulator: Simulator, basic: BasicAuth) -> TableClient:
    return TableClient(session, simulator.url, basic, timeout_s=5)
