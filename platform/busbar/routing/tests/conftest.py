"""Fixtures of the tests that need a database: two sites with the tests' module, one without, and an endpoint."""

import pytest

from busbar.events.registry import REGISTRY
from busbar.routing.tests.support import CLEARED, FAULT, Platform, add_endpoint, add_site


@pytest.fixture
async def platform(database: str, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Sites `north` and `south` have the module `tst`, `bare` has not; the endpoint `acme` takes events of all."""
    monkeypatch.setattr(REGISTRY, "_types", {each.name: each for each in (FAULT, CLEARED)})
    await add_site("north", "tst")
    await add_site("south", "tst")
    await add_site("bare")
    await add_endpoint()
    made = Platform()
    await made.refresh()
    return made
