"""How much processor time slow routes may take from the relay: each by itself is bounded, but many events are not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW_S = 0.005
"""Processor time for one event above which a route draws on its budget; usual filters and mappings take 0.1 ms."""
BURST_S = 0.5
"""Processor time that a slow route may take at once."""
SHARE = 0.05
"""Part of a processor that a slow route may take in the long run."""


class Budget:
    """A token bucket of processor seconds, for one route; fast work is not counted."""

    def __init__(
        self, *, clock_s: Callable[[], float] = time.monotonic, cpu_s: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock_s = clock_s
        self._cpu_s = cpu_s
        self._left_s = BURST_S
        self._filled_at_s = clock_s()

    @property
    def used_up(self) -> bool:
        """Whether the route must wait; false again as soon as its share has refilled a little."""
        if self._left_s > 0:
            return False
        now_s = self._clock_s()
        self._left_s = min(BURST_S, self._left_s + (now_s - self._filled_at_s) * SHARE)
        self._filled_at_s = now_s
        return self._left_s <= 0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the processor time of the block."""
        start_s = self._cpu_s()
        try:
            yield
        finally:
            spent_s = self._cpu_s() - start_s
            if spent_s > SLOW_S:
                self._draw(spent_s)

    def _draw(self, spent_s: float) -> None:
        now_s = self._clock_s()
        self._left_s = min(BURST_S, self._left_s + (now_s - self._filled_at_s) * SHARE) - spent_s
        self._filled_at_s = now_s
