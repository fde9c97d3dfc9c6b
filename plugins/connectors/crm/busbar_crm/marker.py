"""The marker in a custom field of the Case: how much of a ticket's story it has been told already."""

import re
from datetime import UTC, datetime
from typing import Self

import msgspec

MARKER_CHARACTERS_MAX = 255

_MARKER = re.compile(r"Busbar v(\d{1,9}) (-|\d{8}T\d{6}\.\d{6}Z) (-|\d{8}T\d{6}\.\d{6}Z)(?: .*)?")


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Written as `Busbar v<version> <facts_at> <told_at> <correlation id>`.

    Its parts age apart, so that a late event of one kind cannot hold back news of another: status, priority and subject
    come with a ticket version, the description with the time of its event, and what is only told in a comment with
    the time of its own.
    """

    version: int = 0
    """The newest version of the ticket; 0 when no event of the ticket itself has been told."""
    facts_at: str = ""
    """Time of the newest event with a description, as `moment` writes it; "" when there was none."""
    told_at: str = ""
    """Time of the newest event that is a comment only."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Read what a Case carries; whatever is not ours counts as nothing told."""
        match = _MARKER.fullmatch(text)
        if match is None:
            return cls()
        return cls(
            version=int(match[1]),
            facts_at="" if match[2] == "-" else match[2],
            told_at="" if match[3] == "-" else match[3],
        )

    def text(self, correlation_id: str) -> str:
        """What goes into the field: a longer correlation id is cut."""
        parts = f"Busbar v{self.version} {self.facts_at or '-'} {self.told_at or '-'} {correlation_id}"
        return parts[:MARKER_CHARACTERS_MAX]

    def exceeds(self, other: "Marker") -> bool:
        """Whether any part is newer than the other's."""
        return self.version > other.version or self.facts_at > other.facts_at or self.told_at > other.told_at

    def trails(self, other: "Marker") -> bool:
        """Whether a part that it has is older than the other's: it comes late."""
        return (
            0 < self.version < other.version or "" < self.facts_at < other.facts_at or "" < self.told_at < other.told_at
        )

    def including(self, other: "Marker") -> "Marker":
        """The newer of each part."""
        return Marker(
            version=max(self.version, other.version),
            facts_at=max(self.facts_at, other.facts_at),
            told_at=max(self.told_at, other.told_at),
        )


def moment(time: datetime) -> str:
    """A time in UTC with microseconds, of fixed length, so that later times are greater texts too."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
