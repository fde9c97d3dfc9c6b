"""Fixtures of the endpoints' tests: a remote that listens, a desk, and waits short enough for a test."""

from collections.abc import AsyncIterator

import pytest

from busbar.bus import worker
from busbar.connectors import verdict
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.tests import support
from busbar.connectors.tests.support import Remote, add_endpoint, add_site, make_desk


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    started = Remote()
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_S", 0.05)
    monkeypatch.setattr(verdict, "RETRY_S_FIRST", 0.02)
    monkeypatch.setattr(verdict, "AFTER_PROBE_S", 0.7)


@pytest.fixture
async def desk(database: str, remote: Remote, short_waits: None) -> AsyncIterator[EndpointDesk]:
    """A desk with the endpoint `acme-1`."""
    support.ATTEMPTS.clear()
    made = make_desk()
    await add_site(support.SITE, "south")
    await add_endpoint(made, remote)
    try:
        yield made
    finally:
        await made.close()
