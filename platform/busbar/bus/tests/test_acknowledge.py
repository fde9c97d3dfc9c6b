"""Acknowledgements in common: each message once, none that is still at work, whatever ends first."""

import asyncio
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from busbar.bus.acknowledge import Acknowledger


class Channel:
    """As strict as the broker's: a tag that is not outstanding closes the channel."""

    def __init__(self, count: int) -> None:
        self.outstanding = set(range(1, count + 1))
        self.handled: set[int] = set()
        self.frames = 0

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:
        assert tag in self.outstanding, "unknown delivery tag"
        named = {each for each in self.outstanding if each <= tag} if multiple else {tag}
        assert named <= self.handled, "acknowledged while at work"
        self.outstanding -= named
        self.frames += 1


async def settle_in(order: list[tuple[int, bool, bool]]) -> Channel:
    """Settle each tag, refused or handled, with a pause after it or not; then let the last frames go."""
    channel = Channel(len(order))
    acknowledger = Acknowledger(cast(Any, channel), queue="q")
    for tag, is_refused, then_pause in order:
        if is_refused:
            channel.outstanding.remove(tag)
            acknowledger.refused(tag)
        else:
            channel.handled.add(tag)
            acknowledger.handled(tag)
        if then_pause:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    return channel


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[int, bool, bool]]:
    tags = draw(st.permutations(range(1, draw(st.integers(1, 12)) + 1)))
    return [(tag, draw(st.booleans()), draw(st.booleans())) for tag in tags]


@given(orders())
def test_every_message_is_settled_once_in_whatever_order_they_end(order: list[tuple[int, bool, bool]]) -> None:
    assert asyncio.run(settle_in(order)).outstanding == set()


def test_many_that_end_together_have_one_frame() -> None:
    channel = asyncio.run(settle_in([(tag, False, False) for tag in range(1, 101)]))
    assert (channel.outstanding, channel.frames) == (set(), 1)
