"""The RabbitMQ of a run: one server for all installations, with a virtual host for each.

`BUSBAR_ACCEPTANCE_BUS` says what carries the events of the installations that tests start: `embedded`, the default;
`rabbitmq`; or `camel`, which is RabbitMQ with Apache Camel sending to the remote systems.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from acceptance.json_process import JsonProcess

BUSES = ("embedded", "rabbitmq", "camel")
BUS = os.environ.get("BUSBAR_ACCEPTANCE_BUS", "embedded")
if BUS not in BUSES:
    raise ValueError(f"BUSBAR_ACCEPTANCE_BUS is {BUS!r}, which is not one of {', '.join(BUSES)}")

RUNNER = "camel" if BUS == "camel" else "busbar"
"""Who sends to the remote systems."""


class Server:
    """The server of this run; it is started when somebody needs it, and ends with the run."""

    def __init__(self) -> None:
        self._process: JsonProcess | None = None
        self._turn = threading.Lock()

    def process(self) -> JsonProcess:
        """The running server."""
        with self._turn:
            if self._process is None:
                self._process = JsonProcess("-m", "busbar.testing.broker_server")
                self._process.read()
                atexit.register(self._process.close)
            return self._process

    def ask(self, verb: str, **arguments: str) -> dict[str, str]:
        """Have it do something; the answer. Raises AssertionError with what it says when it cannot."""
        answer = self.process().ask({"do": verb, **arguments})
        assert "done" in answer, answer
        done: dict[str, str] = answer["done"]
        return done


SERVER = Server()


@asynccontextmanager
async def fresh_vhost() -> AsyncIterator[str | None]:
    """The address of a virtual host for the time of the block; None in a run without a broker."""
    if BUS == "embedded":
        yield None
        return
    vhost = await asyncio.to_thread(SERVER.ask, "create_vhost")
    try:
        yield vhost["url"]
    finally:
        await asyncio.to_thread(SERVER.ask, "drop_vhost", name=vhost["name"])
