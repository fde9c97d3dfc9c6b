"""Working time: weekly hours in a time zone, with holidays and the changes of daylight saving time; pure rules."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

WORKING: Final = "working"
OUTSIDE_HOURS: Final = "outside_hours"
HOLIDAY: Final = "holiday"

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
_DAYS_KEPT_MAX: Final = 4_000
_SECOND: Final = timedelta(seconds=1)


class Span(NamedTuple):
    """A piece of time, its end exclusive; `note` is the name of a holiday."""

    start: datetime
    end: datetime
    kind: str
    note: str = ""


class WorkingTime:
    """When work is done.

    `hours` are the periods of each weekday (0 is Monday) in minutes after midnight, sorted and apart, 1440 being the
    end of the day; None is around the clock. On `holidays`, each with its name, nobody works.

    The periods are read off a clock on the wall in `zone`. A time that the clocks jump over in spring is the moment of
    the jump; one that comes twice in autumn is the first of the two. So the periods never overlap, and each day lasts
    as long as it does on the wall: 23, 24 or 25 hours.
    """

    def __init__(
        self, zone: tzinfo, hours: Mapping[int, Sequence[tuple[int, int]]] | None, holidays: Mapping[date, str]
    ) -> None:
        self._zone = zone
        self._hours = hours
        self._holidays = holidays
        self._always = hours is None and not holidays
        self._days: dict[date, tuple[Span, ...]] = {}

    def spans(self, since: datetime) -> Iterator[Span]:
        """All time from `since` on, piece by piece, without a gap and without an end."""
        if self._always:
            yield Span(since, END_OF_TIME, WORKING)
            return
        day = since.astimezone(self._zone).date()
        while True:
            for span in self._of(day):
                if span.end > since:
                    yield span if span.start >= since else span._replace(start=since)
            day += timedelta(days=1)

    def after(self, since: datetime, worked: timedelta) -> datetime:
        """The first moment at which so much working time has passed since `since`."""
        if self._always or worked <= timedelta(0):
            return since + max(worked, timedelta(0))
        left = worked
        for span in self.spans(since):
            if span.kind == WORKING:
                length = span.end - span.start
                if length >= left:
                    return span.start + left
                left -= length
        raise AssertionError("there is no end of time")

    def _of(self, day: date) -> tuple[Span, ...]:
        spans = self._days.get(day)
        if spans is None:
            if len(self._days) >= _DAYS_KEPT_MAX:
                self._days.clear()
            spans = self._days[day] = tuple(self._worked_out(day))
        return spans

    def _worked_out(self, day: date) -> Iterator[Span]:
        at, end = self._moment(day, 0), self._moment(day, 1_440)
        if day in self._holidays:
            yield Span(at, end, HOLIDAY, self._holidays[day])
            return
        for begins, ends in ((0, 1_440),) if self._hours is None else self._hours.get(day.weekday(), ()):
            start, stop = self._moment(day, begins), self._moment(day, ends)
            if start > at:
                yield Span(at, start, OUTSIDE_HOURS)
            if stop > start:
                yield Span(start, stop, WORKING)
            at = stop
        if at < end:
            yield Span(at, end, OUTSIDE_HOURS)

    def _moment(self, day: date, minutes: int) -> datetime:
        """The moment at which the clock on the wall shows so many minutes after midnight."""
        shown = datetime.combine(day, time()) + timedelta(minutes=minutes)
        late = shown.replace(tzinfo=self._zone).astimezone(UTC)
        if late.astimezone(self._zone).replace(tzinfo=None) == shown:
            return late
        # It is never shown: the jump lies between what the offsets before and after it make of it.
        early = shown.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        offset = late.astimezone(self._zone).utcoffset()
        while late - early > _SECOND:
            middle = early + (late - early) // _SECOND // 2 * _SECOND
            if middle.astimezone(self._zone).utcoffset() == offset:
                late = middle
            else:
                early = middle
        return late


ALWAYS: Final = WorkingTime(UTC, None, {})
"""Around the clock."""
