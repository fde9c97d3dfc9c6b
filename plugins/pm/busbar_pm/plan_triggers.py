"""When maintenance is due: by the calendar, a meter reading, a condition or an incident; pure rules.

The kinds are those of EN 13306: predetermined (calendar time, units of use) and condition-based maintenance.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from busbar.sdk import FieldError, PositiveQuantity, Quantity, SignedQuantity, Slug
from busbar_pm.events import FaultType, Severity

Unit = Literal["days", "weeks", "months"]


class Calendar(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="calendar", forbid_unknown_fields=True):
    """Every so many days, weeks or months from the first due date on, however long the work takes."""

    every: Annotated[int, msgspec.Meta(ge=1, le=1_200)]
    unit: Unit
    first_due: date


class Meter(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="meter", forbid_unknown_fields=True):
    """Every so many units of a counter, such as hours of operation or switching cycles, counted from `start`.

    When the counter was replaced, `start` is set to what the new one shows.
    """

    measurement: Slug
    every: PositiveQuantity
    start: Quantity = Decimal(0)
    ahead: Quantity = Decimal(0)
    """So many units before the due reading the order is opened already."""


class Condition(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="condition", forbid_unknown_fields=True
):
    """A reading above or below a limit. It counts once, until the readings are back by more than the hysteresis."""

    measurement: Slug
    above: SignedQuantity | None = None
    below: SignedQuantity | None = None
    """One of the two is given."""
    hysteresis: Quantity = Decimal(0)


class IncidentTrigger(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="incident", forbid_unknown_fields=True
):
    """Each incident of one of these fault types and severities; all of them where none is named."""

    fault_types: Annotated[tuple[FaultType, ...], msgspec.Meta(max_length=3)] = ()
    severities: Annotated[tuple[Severity, ...], msgspec.Meta(max_length=4)] = ()

    def wants(self, fault_type: str, severity: str) -> bool:
        """Whether an incident like this is one to act on."""
        return (not self.fault_types or fault_type in self.fault_types) and (
            not self.severities or severity in self.severities
        )


Trigger = Calendar | Meter | Condition | IncidentTrigger


def trigger_errors(trigger: Trigger) -> Sequence[FieldError]:
    """What is wrong with a trigger beyond its types; empty when nothing is."""
    match trigger:
        case Condition(above=above, below=below) if (above is None) == (below is None):
            return [FieldError(field="trigger.above", message="Give one of above and below.")]
        case Meter(every=every, ahead=ahead) if ahead >= every:
            return [FieldError(field="trigger.ahead", message="Must be less than `every`.")]
    return []


class DueDates(msgspec.Struct, frozen=True, kw_only=True):
    """What a calendar says of a day."""

    latest: date
    """The latest due date that has come."""
    covered: int
    """Due dates before it that were never called, for the platform was not there: one order stands for all."""
    following: date | None
    """The next one; None when the calendar of dates ends before."""


def nth_due(calendar: Calendar, n: int) -> date | None:
    """The due date number `n`, from 0; None when it lies beyond the year 9999.

    Months are counted from the first date, so that from the 31st it comes to the 28th or 30th and back to the 31st.
    """
    try:
        match calendar.unit:
            case "months":
                years, month = divmod(calendar.first_due.month - 1 + n * calendar.every, 12)
                year = calendar.first_due.year + years
                return date(year, month + 1, min(calendar.first_due.day, _days_in(year, month + 1)))
            case "weeks":
                return calendar.first_due + timedelta(weeks=n * calendar.every)
            case "days":
                return calendar.first_due + timedelta(days=n * calendar.every)
    except (OverflowError, ValueError):
        return None


def count_until(calendar: Calendar, day: date) -> int:
    """How many due dates there are up to and including `day`."""
    first = calendar.first_due
    if day < first:
        return 0
    if calendar.unit == "months":
        months = (day.year - first.year) * 12 + day.month - first.month
        last = months // calendar.every
        due = nth_due(calendar, last)
        return last if due is None or due > day else last + 1
    step = calendar.every * (7 if calendar.unit == "weeks" else 1)
    return (day - first).days // step + 1


def due_dates(calendar: Calendar, *, next_due: date, until: date) -> DueDates | None:
    """Which due dates from `next_due` on have come by the day `until`; None while none has."""
    if next_due > until:
        return None
    count = count_until(calendar, until)
    latest = nth_due(calendar, count - 1) if count else None
    if latest is None or latest < next_due:
        return None
    before = count_until(calendar, next_due - timedelta(days=1)) if next_due > date.min else 0
    return DueDates(latest=latest, covered=count - before - 1, following=nth_due(calendar, count))


def first_due_from(calendar: Calendar, day: date) -> date | None:
    """The first due date on `day` or later; None when there is none before the year 10000."""
    if day <= calendar.first_due:
        return calendar.first_due
    return nth_due(calendar, count_until(calendar, day - timedelta(days=1)))


class MeterDue(msgspec.Struct, frozen=True, kw_only=True):
    """A counter has come to a due reading."""

    reading: Decimal
    """The due reading that has come, the latest of them."""
    covered: int
    """Due readings before it that no reading showed in time: one order stands for all."""
    following: Decimal


def meter_due(meter: Meter, *, next_value: Decimal, value: Decimal) -> MeterDue | None:
    """Whether a counter that shows `value` has come to the due reading `next_value`, less what is called ahead."""
    reached = value + meter.ahead
    if reached < next_value:
        return None
    covered = int((reached - next_value) // meter.every)
    latest = next_value + covered * meter.every
    return MeterDue(reading=latest, covered=covered, following=latest + meter.every)


class ConditionState(msgspec.Struct, frozen=True, kw_only=True):
    """What a reading means for a condition."""

    armed: bool
    """Whether the next reading beyond the limit counts."""
    due: bool


def judge(condition: Condition, *, armed: bool, value: Decimal) -> ConditionState:
    """Compare a reading with the limit: beyond it is due once, and armed again when it is back by the hysteresis.

    With `above` 80 and a hysteresis of 5: 81 is due, 79 and 82 are not, and after 75 or less 81 is due again. A reading
    at the limit is not beyond it.
    """
    if condition.above is not None:
        beyond, back = value > condition.above, value <= condition.above - condition.hysteresis
    else:
        assert condition.below is not None, "trigger_errors lets one of the two pass"
        beyond, back = value < condition.below, value >= condition.below + condition.hysteresis
    if armed:
        return ConditionState(armed=not beyond, due=beyond)
    return ConditionState(armed=back, due=False)


def _days_in(year: int, month: int) -> int:
    following = date(year + month // 12, month % 12 + 1, 1) if (year, month) != (9999, 12) else None
    return 31 if following is None else (following - timedelta(days=1)).day
