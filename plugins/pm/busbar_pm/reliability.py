"""How reliable an asset was in a period: MTBF, MTTR and availability, from its failures; pure functions.

Terms and formulas follow IEC 60050-192 (dependability) as ISO 14224:2016, annex C, applies them to failure data. A
failure is the loss of the required function: a fault or an outage. A degradation is counted beside, for the function is
still there (ISO 14224: a degraded failure).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An asset lost its function at `started_at` and had it again at `restored_at`; None while it has not."""

    started_at: datetime
    restored_at: datetime | None


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one asset, or of several together; null where there is nothing to divide by."""

    observed_hours: float
    """Of the period, from when on each asset was installed; of several assets, the sum."""
    down_hours: float
    """Of these, hours without function; failures that overlap count once."""
    failures: int
    """That began in the period."""
    restored_failures: int
    """Of these, those that are over."""
    open_failures: int
    """Of these, those that go on."""
    mtbf_hours: float | None
    mttr_hours: float | None
    availability: float | None
    """0 to 1."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one asset in a period, from which the figures of one or of many follow by adding up."""

    observed: timedelta
    down: timedelta
    failures: int
    restored: int
    repairing: timedelta
    """The sum of the times to restoration of the `restored` ones."""


def observe(
    failures: Sequence[Failure], *, period_from: datetime, period_to: datetime, installed_at: datetime | None = None
) -> Observation:
    """Look at one asset from `period_from` to `period_to`, which is not part of the period and must not lie ahead.

    An asset that was installed later is observed from then on; what is told of the time before is not looked at. A
    failure that began before the period and lasted into it makes down time there, and is not counted as a failure of
    the period. One that goes on makes down time up to the end.
    """
    begin = period_from if installed_at is None else max(period_from, installed_at)
    if begin >= period_to:
        return Observation(observed=timedelta(), down=timedelta(), failures=0, restored=0, repairing=timedelta())
    counted = [failure for failure in failures if begin <= failure.started_at < period_to]
    repairs = [
        failure.restored_at - failure.started_at
        for failure in counted
        if failure.restored_at is not None and failure.restored_at <= period_to
    ]
    return Observation(
        observed=period_to - begin,
        down=down_time(failures, period_from=begin, period_to=period_to),
        failures=len(counted),
        restored=len(repairs),
        repairing=sum(repairs, timedelta()),
    )


def down_time(failures: Iterable[Failure], *, period_from: datetime, period_to: datetime) -> timedelta:
    """How long the asset was without function within the period: the union of its failures, cut at both ends.

    IEC 60050-192-02-21: down time is the time for which an item is in a down state; so two failures at once make the
    asset down once.
    """
    spans = sorted(
        (max(failure.started_at, period_from), min(failure.restored_at or period_to, period_to)) for failure in failures
    )
    down = timedelta()
    reached = period_from
    for start, end in spans:
        start = max(start, reached)
        if end > start:
            down += end - start
            reached = end
    return down


def summarize(observations: Iterable[Observation]) -> Reliability:
    """The figures of all that was observed, of one asset or of many taken together.

    MTBF, mean operating time between failures (IEC 60050-192-05-13): the up time divided by the number of failures in
    it, up time being the observed time less the down time. Null without a failure: a mean of none is not infinite.

    MTTR, mean time to restoration (IEC 60050-192-07-23): the sum of the times from the beginning of each failure to
    restoration, divided by their number. A failure that goes on at the end of the period has no such time yet and is
    left out, so null while none is restored; `open_failures` says how many these are.

    Availability (mean over the period, IEC 60050-192-08-05): up time divided by observed time. Null where nothing was
    observed, as of an asset that was installed afterwards.
    """
    seen = list(observations)
    observed = sum((each.observed for each in seen), timedelta())
    down = sum((each.down for each in seen), timedelta())
    repairing = sum((each.repairing for each in seen), timedelta())
    failures = sum(each.failures for each in seen)
    restored = sum(each.restored for each in seen)
    return Reliability(
        observed_hours=_hours(observed),
        down_hours=_hours(down),
        failures=failures,
        restored_failures=restored,
        open_failures=failures - restored,
        mtbf_hours=_hours(observed - down) / failures if failures else None,
        mttr_hours=_hours(repairing) / restored if restored else None,
        availability=(observed - down) / observed if observed else None,
    )


def _hours(time: timedelta) -> float:
    return time / timedelta(hours=1)
