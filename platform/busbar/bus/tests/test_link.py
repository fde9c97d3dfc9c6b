"""However a broker refuses to talk, a link says so in a way that its supervisor knows."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator

import pytest
import uvloop

from busbar.bus.link import LINK_TROUBLE, BrokerAddress, open_link

TIMES = 20
"""What the client library makes of it depends on the loop, and on how far it was; so each is tried often."""


def hang_up_at_once(connection: socket.socket) -> None:
    pass


def hang_up_in_the_handshake(connection: socket.socket) -> None:
    connection.recv(8)  # the protocol header


def speak_something_else(connection: socket.socket) -> None:
    connection.recv(8)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Listener:
    """Answers each connection in a thread, for what happens at once must not wait for the client's loop."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                self._answer(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(params=[hang_up_at_once, hang_up_in_the_handshake, speak_something_else])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listener = Listener(request.param)
    yield listener
    listener.close()


async def try_often(port: int) -> None:
    address = BrokerAddress(f"amqp://busbar:x@127.0.0.1:{port}/busbar")
    for _ in range(TIMES):
        with pytest.raises(LINK_TROUBLE):
            async with asyncio.timeout(10), open_link(address, name="test"):
                raise AssertionError("nobody is there to link with")


class TestRefusals:
    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
    def test_one_that_hangs_up_is_trouble_of_the_link(
        self, listener: Listener, run: Callable[[Coroutine[None, None, None]], None]
    ) -> None:
        run(try_often(listener.port))
