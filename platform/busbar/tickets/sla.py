"""When a ticket is due (SPEC R1.3): pure rules."""

from datetime import datetime, timedelta
from typing import Final

RESOLUTION_TARGET: Final = {
    "P1": timedelta(hours=4),
    "P2": timedelta(hours=8),
    "P3": timedelta(hours=24),
    "P4": timedelta(hours=72),
}
"""Time from creation to resolution, by priority."""


def deadline(created_at: datetime, priority: str) -> datetime:
    """The moment by which a ticket of this priority is due."""
    return created_at + RESOLUTION_TARGET[priority]


def resumed(deadline_before: datetime, hold_since: datetime, now: datetime) -> datetime:
    """The deadline after a hold: later by the time spent on hold."""
    return deadline_before + max(timedelta(0), now - hold_since)
