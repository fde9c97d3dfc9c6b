"""Reads files without holding up the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

T = TypeVar("T")


async def iterate_in_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Yield what `items` yields; the work between two of them is done in a thread.

    When the caller stops early or is cancelled, `items` is closed as soon as its last step has ended and nobody holds
    it any more.
    """
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item  # type: ignore[misc]  # it is not the end
