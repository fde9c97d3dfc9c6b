"""Identity on a fresh database, with a clock that the test moves."""

from collections.abc import AsyncIterator

import pytest

from busbar.auth.service import Auth
from busbar.auth.tests.support import ManualClock, identity


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def auth(database: str, clock: ManualClock) -> AsyncIterator[Auth]:
    async with identity(clock) as started:
        yield started
