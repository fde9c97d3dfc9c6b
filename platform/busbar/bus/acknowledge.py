"""Acknowledges messages of a channel, many by one frame where that is possible.

Delivery tags count up. All up to a tag are acknowledged by one frame once all of them are settled; what is settled
beyond one that is still at work gets a frame of its own, so that nobody waits for the slowest (AMQP 0-9-1, `multiple`).
"""

import asyncio

import aiormq
import structlog

from busbar.bus.link import LINK_TROUBLE
from busbar.db import spawn

log = structlog.get_logger()


class Acknowledger:
    """For one channel, whose first delivery tag is 1."""

    def __init__(self, channel: aiormq.Channel, *, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._handled: set[int] = set()
        """To be acknowledged."""
        self._settled: set[int] = set()
        """Acknowledged or refused already, beyond one that is not."""
        self._lowest = 1
        """All before are settled."""
        self._is_writing = False

    def handled(self, tag: int) -> None:
        """Acknowledge this message soon, with others that are handled at the same moment."""
        self._handled.add(tag)
        if not self._is_writing:
            self._is_writing = True
            spawn(self._write(), name=f"acknowledge-{self._queue}")

    def refused(self, tag: int) -> None:
        """This message was refused or given back: the frame that says so is on its way."""
        self._settled.add(tag)

    async def _write(self) -> None:
        try:
            while self._handled:
                await asyncio.sleep(0)  # those that end in the same moment come along
                for tag, multiple in self._frames():
                    await self._channel.basic_ack(tag, multiple=multiple, wait=False)
        except LINK_TROUBLE as error:
            # The broker gives them to somebody again, who finds in the ledger that they are done.
            log.debug("messages_not_acknowledged", queue=self._queue, error=repr(error))
        finally:
            self._is_writing = False

    def _frames(self) -> list[tuple[int, bool]]:
        """The tags to acknowledge now, and whether all before are meant as well."""
        first, last = self._lowest, None
        while self._lowest in self._handled or self._lowest in self._settled:
            if self._lowest in self._handled:
                self._handled.remove(self._lowest)
                last = self._lowest  # the frame must name one that is not settled yet
            else:
                self._settled.remove(self._lowest)
            self._lowest += 1
        frames = [] if last is None else [(last, last > first)]
        frames += [(tag, False) for tag in sorted(self._handled)]
        self._settled |= self._handled
        self._handled.clear()
        return frames
