"""Reliability indices once more, for tests to compare with: plain loops over plain rows, and nothing of the product."""

import csv
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from math import exp, log, sqrt
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

PARENTS = {
    "SUB": None, "TRF": "SUB", "F1": "TRF", "F1-L1": "F1", "F1-T1": "F1-L1", "F1-T1-L1": "F1-T1", "F1-ST": "F1",
    "F3": "F1-ST", "F3-T1": "F3", "F2": "TRF", "F2-L1": "F2", "F2-L1-T1": "F2-L1", "F2-L1-T1-L1": "F2-L1-T1",
    "PUMP": None,
}  # fmt: skip
"""A network: F1 and F2 are feeders of one substation, F3 is a feeder of a station at the end of F1."""
SERVED = {"SUB": 5000, "TRF": 5000, "F1": 2000, "F2": 1200, "F3": 400}
"""Customers served; the other assets do not matter here."""
BERLIN = ZoneInfo("Europe/Berlin")


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    asset: str
    started_at: datetime
    customers: int
    steps: tuple[tuple[timedelta, int], ...] = ()
    """After how long supply came back, and for how many."""
    state: str = "over"
    """over, open or cancelled."""


def hundred() -> list[Outage]:
    """The outages of fixtures/outages.csv; a step there is hours:minutes(:seconds)=customers."""
    with (Path(__file__).parent / "fixtures" / "outages.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Outage(
            asset=row["asset"],
            started_at=datetime.fromisoformat(row["started_at"]),
            customers=int(row["customers"]),
            steps=tuple(_step(text) for text in row["steps"].split()),
            state=row["state"],
        )
        for row in rows
    ]


def _step(text: str) -> tuple[timedelta, int]:
    lasted, customers = text.split("=")
    hours, minutes, *seconds = (int(part) for part in lasted.split(":"))
    return timedelta(hours=hours, minutes=minutes, seconds=sum(seconds)), int(customers)


def feeder(asset: str | None) -> str | None:
    while asset is not None and not (asset.startswith("F") and "-" not in asset):
        asset = PARENTS[asset]
    return asset


def counted(outages: Iterable[Outage], *, as_of: datetime) -> tuple[int, float, int, int]:
    """Sustained customer interruptions, customer minutes, momentary interruptions, customers still out."""
    sustained, customer_minutes, momentary, still_out = 0, 0.0, 0, 0
    for outage in outages:
        if outage.state == "cancelled":
            continue
        left = outage.customers
        for lasted, customers in outage.steps:
            left -= customers
            minutes = lasted.total_seconds() / 60
            if minutes > 5:
                sustained += customers
                customer_minutes += customers * minutes
            else:
                momentary += customers
        still_out += left
        if (as_of - outage.started_at).total_seconds() > 300:
            sustained += left
    return sustained, customer_minutes, momentary, still_out


def day_of(outage: Outage, zone: ZoneInfo = BERLIN) -> date:
    return outage.started_at.astimezone(zone).date()


def major_days(outages: Iterable[Outage], year: int, customers: int, *, as_of: datetime) -> dict[date, float]:
    """The days of a year above exp(alpha + 2.5 beta) of the five years before, with their SAIDI."""
    by_day: dict[date, list[Outage]] = {}
    for outage in outages:
        by_day.setdefault(day_of(outage), []).append(outage)
    saidi = {day: counted(some, as_of=as_of)[1] / customers for day, some in by_day.items()}
    logs = [log(minutes) for day, minutes in saidi.items() if year - 5 <= day.year < year and minutes > 0]
    if len(logs) < 2:
        return {}
    alpha = sum(logs) / len(logs)
    beta = sqrt(sum((each - alpha) ** 2 for each in logs) / (len(logs) - 1))
    limit = exp(alpha + 2.5 * beta)
    return {day: minutes for day, minutes in sorted(saidi.items()) if day.year == year and minutes > limit}
