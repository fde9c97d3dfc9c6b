"""Someone with an empty home, and someone whose home has a cluster."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from busbar.db.tests.people import KINDS_OF_PEOPLE, Person, at_work, open_folder


@pytest.fixture(params=KINDS_OF_PEOPLE)
async def newcomer(request: pytest.FixtureRequest) -> AsyncIterator[Person]:
    """Someone whose home is empty."""
    with open_folder() as folder:
        async with at_work(request.param, folder) as someone:
            yield someone


@pytest.fixture(scope="module", params=KINDS_OF_PEOPLE)
async def settled(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Path]]:
    """The name and the folder of someone whose home has a cluster: one for all tests, for initdb takes a second."""
    with open_folder() as folder:
        async with at_work(request.param, folder) as someone:
            await (await someone.start()).stop()
        yield request.param, folder


@pytest.fixture
async def person(settled: tuple[str, Path]) -> AsyncIterator[Person]:
    """Someone whose home has a cluster, with no server running."""
    async with at_work(*settled) as someone:
        yield someone
