"""However a broker refuses to talk, a link says so in a way that its supervisor knows."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from busbar.bus.link import LINK_TROUBLE, BrokerAddress, open_link

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang_up_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def hang_up_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(8)  # the protocol header
    writer.close()


async def speak_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


class TestRefusals:
    @pytest.mark.parametrize("answer", [hang_up_at_once, hang_up_in_the_handshake, speak_something_else])
    async def test_one_that_hangs_up_is_trouble_of_the_link(self, answer: Answer) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            with pytest.raises(LINK_TROUBLE):
                async with open_link(BrokerAddress(f"amqp://busbar:x@127.0.0.1:{port}/busbar"), name="test"):
                    raise AssertionError("nobody is there to link with")
        finally:
            server.close()
