"""Ticket ids (SPEC R1.1): `TKT-{MODULE}-{YYYYMMDD}-{SEQUENCE}`; `opening.py` says the same in SQL."""

from datetime import date
from typing import Final

PATTERN: Final = r"^TKT-[A-Z][A-Z0-9_]*-[0-9]{8}-[0-9]{4,}$"


def ticket_id(module: str, day: date, number: int) -> str:
    """The id of the ticket `number` (from 1) of a module on a UTC day; at least four digits, more past 9999."""
    return f"TKT-{module.upper()}-{day:%Y%m%d}-{number:04d}"
