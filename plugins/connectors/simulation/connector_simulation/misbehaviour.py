"""What can go wrong on purpose: misbehaviours that are switched on for some requests, or until they are cleared."""

from collections.abc import Mapping

import msgspec

KINDS: dict[str, float] = {
    "unauthorized": 0.0,
    "rate_limit": 30.0,
    "server_error": 0.0,
    "timeout_after_effect": 60.0,
    "slow": 1.0,
    "wrong_body": 0.0,
    "down": 0.0,
}
"""What every simulator can do, with the `delay_s` that each has unless given."""

_WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Misbehaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One kind of trouble and how long it lasts.

    unauthorized: the refusal of bad credentials · rate_limit: that of a used-up quota, for `delay_s` · server_error:
    `status`, 503 unless given · timeout_after_effect: a write is carried out and no answer comes for `delay_s`, then
    the connection closes · slow: the answer comes after `delay_s` · wrong_body: 200 with an HTML page · down: the
    connection is closed. A simulator may have kinds of its own.
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
        if self.count is not None and self.count < 1:
            raise ValueError("count is at least 1, or absent: until cleared")
        if not 500 <= self.status <= 599:
            raise ValueError("status is the code of a server error, 500 to 599")

    def hits(self, method: str, target: str) -> bool:
        if self.kind == "timeout_after_effect" and method not in _WRITES:
            return False
        return self.path_contains in target and self.method in (None, method)


class Misbehaviours:
    """The ones that are switched on, oldest first; the first that hits a request decides."""

    def __init__(self, kinds: Mapping[str, float] = KINDS, *, api_path: str = "/") -> None:
        """`kinds` and their default delays in seconds; `api_path` is what the paths of the API proper contain."""
        self.kinds = dict(kinds)
        self.active: list[Misbehaviour] = []
        self._api_path = api_path

    def add(self, misbehaviour: Misbehaviour) -> None:
        """Switch one on. Raises ValueError for a kind that there is not."""
        kind = misbehaviour.kind
        if kind not in self.kinds:
            raise ValueError(f"kind is one of {', '.join(self.kinds)}, not {kind!r}")
        if misbehaviour.delay_s is None:
            misbehaviour.delay_s = self.kinds[kind]
        if kind == "unauthorized" and not misbehaviour.path_contains:
            misbehaviour.path_contains = self._api_path
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
