"""Fixtures: the small application, a client for it, and the caught log."""

from collections.abc import AsyncIterator

import httpx
import pytest

from busbar.observability.tests.conftest import log_lines, logging_as_before
from busbar.web.tests.small_app import SmallApp

__all__ = ["log_lines", "logging_as_before"]


@pytest.fixture
def small_app() -> SmallApp:
    return SmallApp()


@pytest.fixture
async def client(small_app: SmallApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(small_app.edge)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://busbar.test") as opened:
        yield opened
