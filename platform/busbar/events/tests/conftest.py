"""The event types of the tests' own module, known for the time of each test."""

import pytest

from busbar.events.registry import REGISTRY
from busbar.events.tests.facts import FACT, NEWS, OTHER


@pytest.fixture(autouse=True)
def declared_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_types", {each.name: each for each in (FACT, NEWS, OTHER)})
