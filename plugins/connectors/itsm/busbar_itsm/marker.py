"""The marker in `correlation_display`: how much of a ticket's story its remote record has been told already."""

import re
from datetime import UTC, datetime
from typing import Self

import msgspec

DISPLAY_CHARACTERS_MAX = 100

_DISPLAY = re.compile(r"Busbar v(\d{1,9}) (-|\d{8}T\d{6}\.\d{6}Z)(?: .*)?")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Written as `Busbar v<version> <facts_at> <correlation id>`; ServiceNow shows it beside the correlation id.

    The two halves age apart. Status, priority and title come with a ticket version; description and what is known of
    the fault come with the time of their event. So a late event of one kind cannot hold back news of the other.
    """

    version: int = 0
    """The newest version of the ticket; 0 when no event of the ticket itself has been told."""
    facts_at: str = ""
    """Time of the newest event with facts, as `moment` writes it; "" when there was none."""

    @classmethod
    def of(cls, display: str) -> Self:
        """Read what a record carries; whatever is not ours counts as nothing told."""
        match = _DISPLAY.fullmatch(display)
        if match is None:
            return cls()
        return cls(version=int(match[1]), facts_at="" if match[2] == "-" else match[2])

    def display(self, correlation_id: str) -> str:
        """The text for the record, of at most 100 characters: a longer correlation id is cut."""
        return f"Busbar v{self.version} {self.facts_at or '-'} {correlation_id}"[:DISPLAY_CHARACTERS_MAX]

    def including(self, other: "Marker") -> "Marker":
        """The newer of each half."""
        return Marker(version=max(self.version, other.version), facts_at=max(self.facts_at, other.facts_at))


def moment(time: datetime) -> str:
    """A time in UTC with microseconds, of fixed length, so that later times are greater texts too."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
