"""The organization's API requests of the last 24 hours, and what is left of them."""

from collections import deque
from collections.abc import Callable
from datetime import datetime

WINDOW_S = 24 * 3600


class Quota:
    """Counts requests over a window that moves along; a batch counts as one."""

    def __init__(self, requests_max: int, *, clock: Callable[[], datetime]) -> None:
        if requests_max < 0:
            raise ValueError("requests_max is at least 0")
        self.requests_max = requests_max
        self._clock = clock
        self._counted: deque[float] = deque()

    def count(self) -> bool:
        """Count one request; False, and not counted, if there is none left."""
        now_s = self._clock().timestamp()
        while self._counted and self._counted[0] <= now_s - WINDOW_S:
            self._counted.popleft()
        if len(self._counted) >= self.requests_max:
            return False
        self._counted.append(now_s)
        return True

    def allow(self, requests_max: int) -> None:
        """Change how many there are; what was counted stays counted. Raises ValueError."""
        if requests_max < 0:
            raise ValueError("requests_max is at least 0")
        self.requests_max = requests_max

    @property
    def used(self) -> int:
        return len(self._counted)

    @property
    def header(self) -> dict[str, str]:
        """What every answer says."""
        return {"Sforce-Limit-Info": f"api-usage={self.used}/{self.requests_max}"}
