"""The instance's rate limit rule: so many requests per user and hour."""

import math
from collections.abc import Callable
from datetime import datetime


class RateLimit:
    """At most `requests_max` per user and window; windows are aligned to the clock, as the real rule's hours are."""

    RULE = "5a7c1f0e9d3b4c62a8e10b2f7d944e31"
    """The sys_id of the simulated rule, told in X-RateLimit-Rule."""

    def __init__(self, requests_max: int, *, window_s: int, clock: Callable[[], datetime]) -> None:
        if requests_max < 0 or window_s < 1:
            raise ValueError("a rate limit takes requests_max >= 0 and window_s >= 1")
        self.requests_max = requests_max
        self.window_s = window_s
        self._clock = clock
        self._window = -1
        self._counts: dict[str, int] = {}

    def count(self, user: str) -> tuple[bool, dict[str, str]]:
        """Count one request; whether it is allowed, and the headers of its answer."""
        now_s = self._clock().timestamp()
        window = int(now_s // self.window_s)
        if window != self._window:
            self._window, self._counts = window, {}
        self._counts[user] = self._counts.get(user, 0) + 1
        reset_s = (window + 1) * self.window_s
        headers = {
            "X-RateLimit-Limit": str(self.requests_max),
            "X-RateLimit-Reset": str(reset_s),
            "X-RateLimit-Rule": self.RULE,
        }
        if self._counts[user] <= self.requests_max:
            return True, headers
        return False, {**headers, "Retry-After": str(max(1, math.ceil(reset_s - now_s)))}
