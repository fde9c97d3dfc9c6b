"""The rules of reliability indices: what an outage counts for, the formulas, and major event days (SPEC R2.6).

Source: IEEE Std 1366-2012, IEEE Guide for Electric Power Distribution Reliability Indices; below just "the standard".
Sums are whole numbers (customers, customer-microseconds), so that they do not depend on any order and add up exactly
over periods. An index is one division of such sums, and the float nearest to the true quotient; nothing is rounded
before it, and nothing after.
"""

import math
import statistics
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final, Literal

import msgspec

SUSTAINED_ABOVE: Final = timedelta(minutes=5)
"""A customer's interruption is sustained when it lasts longer than this, else momentary (the standard, clause 2)."""
HISTORY_YEARS: Final = 5
"""So many full calendar years before a year decide on its threshold (the standard, 3.5 and B.2 a)."""
BETA_FACTOR: Final = 2.5
MICROSECONDS_PER_MINUTE: Final = 60_000_000

Grouping = Literal["total", "year", "quarter", "month", "day"]
Period = tuple[date, date]
"""First day, and the first day after it."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What some outages add up to."""

    outages: int = 0
    """With at least one sustained interruption."""
    interruptions: int = 0
    """Customers interrupted for longer than five minutes, one for each outage; those still out included."""
    customer_us: int = 0
    """Of those who have supply again: customers × microseconds without."""
    momentary: int = 0
    """Customers who had supply again within five minutes."""
    open_outages: int = 0
    open_customers: int = 0
    """Still out."""
    open_customer_us: int = 0
    """Of those still out, until now; not part of `customer_us`."""

    def __add__(self, other: "Tally") -> "Tally":
        names = self.__struct_fields__
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


NOTHING: Final = Tally()


class Indices(msgspec.Struct, frozen=True, kw_only=True):
    """Reliability indices; those per customer served are null where it is not known how many are served."""

    outages: int
    """Outages with at least one sustained interruption, which is one longer than five minutes."""
    customer_interruptions: int
    """Sustained interruptions, counted per customer."""
    customer_minutes: float
    """Minutes of sustained interruption, added up over customers who have supply again."""
    saidi_minutes: float | None
    """System Average Interruption Duration Index: minutes per customer served."""
    saifi: float | None
    """System Average Interruption Frequency Index: sustained interruptions per customer served."""
    caidi_minutes: float | None
    """Customer Average Interruption Duration Index: minutes per sustained interruption; null without any."""
    asai: float | None
    """Average Service Availability Index: share of the time with supply, 1 for always."""
    momentary_interruptions: int
    """Interruptions of five minutes or less, counted per customer."""
    maifi: float | None
    """Momentary Average Interruption Frequency Index: momentary interruptions per customer served."""


def indices(tally: Tally, *, customers_served: int, period_us: int) -> Indices:
    """The indices of a period of so many microseconds; with 0 customers served those per customer are None.

    Formulas of the standard, clause 3, with N_T customers served, and for each interruption N_i customers
    interrupted for r_i minutes:

    - SAIDI = Σ r_i N_i / N_T (3.2.2)
    - SAIFI = Σ N_i / N_T (3.2.1)
    - CAIDI = Σ r_i N_i / Σ N_i = SAIDI / SAIFI (3.2.3)
    - ASAI = (N_T × minutes of the period − Σ r_i N_i) / (N_T × minutes of the period) (3.2.6). An outage belongs to
      the day on which it starts, so that for a single day this may be below 0.
    - MAIFI = Σ N_i of momentary interruptions / N_T (3.4.1)

    r_i is known of interruptions that are over. Whoever is still out counts for frequency and not for duration, as in
    the reports of the American Public Power Association's eReliability Tracker; the standard leaves it open.
    """
    available_us = customers_served * period_us
    return Indices(
        outages=tally.outages,
        customer_interruptions=tally.interruptions,
        customer_minutes=tally.customer_us / MICROSECONDS_PER_MINUTE,
        saidi_minutes=_ratio(tally.customer_us, customers_served * MICROSECONDS_PER_MINUTE),
        saifi=_ratio(tally.interruptions, customers_served),
        caidi_minutes=_ratio(tally.customer_us, tally.interruptions * MICROSECONDS_PER_MINUTE),
        asai=_ratio(available_us - tally.customer_us, available_us),
        momentary_interruptions=tally.momentary,
        maifi=_ratio(tally.momentary, customers_served),
    )


def _ratio(numerator: int, denominator: int) -> float | None:
    # Python divides whole numbers of any size to the nearest float.
    return numerator / denominator if denominator > 0 else None


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """What a day's SAIDI must exceed to be a major event day."""

    alpha: float
    """Mean of the natural logarithms of daily SAIDI in minutes."""
    beta: float
    """Their standard deviation."""
    t_med_minutes: float
    """exp(alpha + 2.5 beta)."""
    days: int
    """Days with any SAIDI that it was computed from."""

    def is_exceeded_by(self, saidi_minutes: float) -> bool:
        """Whether a day of this SAIDI is a major event day.

        Above by less than a billionth is not above: that much logarithm and exponential may cost on the way, and a day
        like all days before must not become a major event by it.
        """
        return saidi_minutes > self.t_med_minutes * (1 + 1e-9)


def threshold_of(daily_saidi_minutes: Iterable[float]) -> Threshold | None:
    """The threshold T_MED that days with these SAIDI set for the year that follows; None if fewer than two have any.

    The 2.5 beta method: the standard, 3.5 and B.2; R. D. Christie, "Statistical classification of major event days in
    distribution system reliability", IEEE Transactions on Power Delivery 18(4), 2003. Days of zero SAIDI are left out,
    as they have no logarithm (B.2 b).

    Beta is the sample standard deviation (n − 1). The standard says "standard deviation" and no more; alpha and beta
    are estimates, from five years of days, of the distribution that the next year's days are judged by, and n − 1
    makes the estimate of the variance unbiased. With 1,826 days it raises beta by 0.03 % over the other.
    """
    logarithms = [math.log(saidi) for saidi in daily_saidi_minutes if saidi > 0]
    if len(logarithms) < 2:
        return None
    alpha = statistics.fmean(logarithms)
    beta = statistics.stdev(logarithms)
    return Threshold(alpha=alpha, beta=beta, t_med_minutes=math.exp(alpha + BETA_FACTOR * beta), days=len(logarithms))


def history_of(year: int) -> Period:
    """The days that decide on a year's threshold: the five full calendar years before it."""
    return date(year - HISTORY_YEARS, 1, 1), date(year, 1, 1)


def threshold_for(year: int, daily_saidi_minutes: Mapping[date, float]) -> Threshold | None:
    """The threshold of a whole year, from the days of the five years before it that are in the mapping.

    Where there is less history, all that there is counts (the standard, B.2 a).
    """
    first, end = history_of(year)
    return threshold_of(saidi for day, saidi in daily_saidi_minutes.items() if first <= day < end)


def periods(first: date, end: date, by: Grouping) -> list[Period]:
    """The days from `first` up to and without `end`, cut where a year, quarter, month or day begins, in order."""
    cut: list[Period] = []
    begins = first
    while begins < end:
        ends = min(end, _next(begins, by) or end)
        cut.append((begins, ends))
        begins = ends
    return cut


def _next(day: date, by: Grouping) -> date | None:
    """The first day of the period after that of `day`; None where there is one period only."""
    if by == "day":
        return day + timedelta(days=1)
    months = {"month": 1, "quarter": 3, "year": 12}.get(by)
    if months is None:
        return None
    # Months since the year 0, up to the next full number of them.
    following = ((day.year * 12 + day.month - 1) // months + 1) * months
    return date(following // 12, following % 12 + 1, 1)
