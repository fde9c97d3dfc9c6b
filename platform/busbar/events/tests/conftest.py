"""The event types of the tests' own module, known for the time of each test, and a caller of the API."""

from collections.abc import AsyncIterator

import pytest

from busbar.events.registry import REGISTRY
from busbar.events.stream import EventStream
from busbar.events.tests.facts import FACT, NEWS, OTHER
from busbar.events.tests.served import Api, Signed, browser, make_app, serving


@pytest.fixture(autouse=True)
def declared_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_types", {each.name: each for each in (FACT, NEWS, OTHER)})


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    signed = Signed()
    async with serving(make_app(EventStream(), signed)) as base, browser() as session:
        yield Api(base, session, signed)
