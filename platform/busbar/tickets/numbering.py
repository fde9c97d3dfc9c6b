"""Ticket ids (SPEC R1.1): `TKT-{MODULE}-{YYYYMMDD}-{SEQUENCE}`."""

import re
from datetime import date
from typing import Final

PATTERN: Final = r"^TKT-[A-Z][A-Z0-9]*-\d{8}-\d{4,}$"


def ticket_id(module: str, day: date, number: int) -> str:
    """The id of the ticket `number` (from 1) of a module on a UTC day; at least four digits, more past 9999."""
    return f"TKT-{module.upper()}-{day:%Y%m%d}-{number:04d}"


def module_of(identifier: str) -> str | None:
    """The module in a ticket id, in lower case; None when it is not a ticket id."""
    return identifier.split("-")[1].lower() if re.match(PATTERN, identifier) else None
