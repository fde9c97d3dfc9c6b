"""The condition of a list, put together from what a caller asks for."""

from typing import Any


class Where:
    """Parts that all must hold, and their values, numbered `$1`, `$2`, … in the order in which they are added.

    Only the parts that matter are in it, so that PostgreSQL finds the index that fits.
    """

    def __init__(self, condition: str = "", *values: Any) -> None:
        """Begin with `condition`, in which `$1`, `$2`, … stand for the values."""
        self._parts = [condition] if condition else []
        self.values = list(values)

    def add(self, condition: str, value: Any) -> None:
        """A part with one value, whose place is written `{}`; nothing when the value is None."""
        if value is not None:
            self.values.append(value)
            self._parts.append(condition.replace("{}", f"${len(self.values)}"))

    def add_plain(self, condition: str) -> None:
        """A part without a value."""
        self._parts.append(condition)

    @property
    def sql(self) -> str:
        """What follows WHERE."""
        return " and ".join(self._parts) or "true"
