"""A database with the tests' own module known, and a table in which handlers have their effect."""

from collections.abc import Iterator

import pytest
import structlog

from busbar.db import execute
from busbar.events.registry import REGISTRY
from busbar.events.tests.facts import FACT


@pytest.fixture(autouse=True)
async def effect_table(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_types", {FACT.name: FACT})
    await execute("create table public.effect (n bigserial, subject text not null, correlation_id text not null)")


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Nobody reads the many tracebacks of handlers that fail on purpose, and drawing them takes most of the time."""
    with structlog.testing.capture_logs():
        yield
