"""What can go wrong on purpose: misbehaviours that are switched on for some requests, and the hourly rate limit."""

import math
from collections.abc import Callable
from datetime import datetime

import msgspec

KINDS = (
    "unauthorized",
    "rate_limit",
    "server_error",
    "timeout_after_effect",
    "slow",
    "wrong_body",
    "down",
)

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_DELAYS_S = {"rate_limit": 30.0, "timeout_after_effect": 60.0, "slow": 1.0}


class Misbehaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One kind of trouble and how long it lasts.

    unauthorized: 401 · rate_limit: 429 with Retry-After `delay_s` · server_error: `status`, 503 unless given ·
    timeout_after_effect: a write is carried out and no answer comes for `delay_s`, then the connection closes ·
    slow: the answer comes after `delay_s` · wrong_body: 200 with an HTML page · down: the connection is closed.
    """

    kind: str
    count: int | None = None
    """How many requests it hits; None until it is cleared."""
    status: int = 503
    delay_s: float | None = None
    path_contains: str = ""
    """Hits only requests whose path and query contain this. `unauthorized` never hits the token endpoint by default."""
    method: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.count is not None and self.count < 1:
            raise ValueError("count is at least 1, or absent: until cleared")
        if not 500 <= self.status <= 599:
            raise ValueError("status is the code of a server error, 500 to 599")
        if self.delay_s is None:
            self.delay_s = _DELAYS_S.get(self.kind, 0.0)
        if self.kind == "unauthorized" and not self.path_contains:
            self.path_contains = "/api/"

    def hits(self, method: str, target: str) -> bool:
        if self.kind == "timeout_after_effect" and method not in _WRITES:
            return False
        return self.path_contains in target and self.method in (None, method)


class Misbehaviours:
    """The ones that are switched on, oldest first; the first that hits a request decides."""

    def __init__(self) -> None:
        self.active: list[Misbehaviour] = []

    def add(self, misbehaviour: Misbehaviour) -> None:
        self.active.append(misbehaviour)

    def clear(self, kind: str | None = None) -> None:
        """Switch off one kind, or all."""
        self.active = [one for one in self.active if kind is not None and one.kind != kind]

    def take(self, method: str, target: str) -> Misbehaviour | None:
        """The misbehaviour for this request, used up by one."""
        for one in self.active:
            if one.hits(method, target):
                if one.count is not None:
                    one.count -= 1
                    if one.count == 0:
                        self.active.remove(one)
                return one
        return None


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
