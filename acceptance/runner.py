"""Who sends to the remote systems in this run: Busbar itself, or an Apache Camel beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from acceptance.camel import Camel
from acceptance.processes import Installation
from acceptance.rabbitmq import RUNNER

busbar_only = pytest.mark.skipif(RUNNER != "busbar", reason="it is about how Busbar itself reaches the remote system")


@asynccontextmanager
async def runner(installed: Installation, **remotes: str) -> AsyncIterator[None]:
    """Camel, sending to `remotes` (its settings), for the time of the block; nothing where Busbar sends by itself."""
    if RUNNER == "busbar":
        yield
        return
    assert installed.amqp_url is not None
    camel = Camel(installed.folder, AMQP_URL=installed.amqp_url, **remotes)
    try:
        await camel.start()
        yield
    finally:
        await camel.stop()
