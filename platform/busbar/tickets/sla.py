"""When a ticket is due, and why (SPEC R1.3): pure rules.

The clock of a promise starts when the ticket is created, runs in working time only, and stands still on hold. A
deadline is the moment at which as much of it has passed as was promised, to the microsecond. What an explanation counts
is whole seconds: at each boundary the exact time so far, rounded down, and for a segment the difference of its two
boundaries. So the seconds of all segments add up to the whole, and at the deadline the whole is exactly the target.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from busbar.kit.working_time import END_OF_TIME, WORKING, Span, WorkingTime

STANDARD: Final = "standard"
STORM: Final = "storm"
"""What is promised for incidents in a declared weather event, in place of what is standard."""
PRIORITIES: Final = ("P1", "P2", "P3", "P4")

ON_HOLD: Final = "on_hold"
IN_STORM: Final = "storm"
"""Working time within the ticket's weather event; it counts like any other."""
SEVERAL: Final = "several"
"""Segments in the middle of a long list, taken together."""
SEGMENTS_MAX: Final = 500

WARN_PERCENT: Final = 80
"""A warning comes when so much of a target is used up."""

Hold = tuple[datetime, datetime]
"""From when to when a ticket was on hold."""
_SECOND: Final = timedelta(seconds=1)


class Target(NamedTuple):
    """Seconds of working time from creation until somebody takes the ticket, and until the work is done."""

    response_s: int
    resolution_s: int


def _hours(response: float, resolution: float) -> Target:
    return Target(int(response * 3_600), int(resolution * 3_600))


TARGETS: Final[Mapping[str, Mapping[str, Target]]] = {
    STANDARD: {"P1": _hours(0.5, 4), "P2": _hours(1, 8), "P3": _hours(4, 24), "P4": _hours(12, 72)},
    STORM: {"P1": _hours(1, 12), "P2": _hours(4, 24), "P3": _hours(12, 72), "P4": _hours(24, 168)},
}
"""By class and priority, unless somebody set others. The standard resolution is that of SPEC R1.3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """What was promised for a ticket; tickets from before there were response targets have none."""

    created_at: datetime
    response_s: int | None
    resolution_s: int
    warn_percent: int = WARN_PERCENT


class Moments(NamedTuple):
    """The moments at which a promise is nearly and quite used up."""

    response_warning: datetime | None
    response_breached: datetime | None
    resolution_warning: datetime
    resolution_breached: datetime


def moments(promise: Promise, calendar: WorkingTime, holds: Sequence[Hold] = ()) -> Moments:
    """When the warnings and the deadlines of a promise come, after these holds."""
    response: tuple[datetime | None, datetime | None] = (None, None)
    if promise.response_s is not None:
        response = _warning_and_deadline(promise, promise.response_s, calendar, holds)
    return Moments(*response, *_warning_and_deadline(promise, promise.resolution_s, calendar, holds))


def _warning_and_deadline(
    promise: Promise, target_s: int, calendar: WorkingTime, holds: Sequence[Hold]
) -> tuple[datetime, datetime]:
    target = timedelta(seconds=target_s)
    warning = target * promise.warn_percent / 100
    if not holds:
        return calendar.after(promise.created_at, warning), calendar.after(promise.created_at, target)
    return (
        _reached(timeline(calendar, promise.created_at, holds), warning),
        _reached(timeline(calendar, promise.created_at, holds), target),
    )


def _reached(spans: Iterator[Span], wanted: timedelta) -> datetime:
    left = wanted
    for span in spans:
        if span.kind == WORKING:
            length = span.end - span.start
            if length >= left:
                return span.start + left
            left -= length
    raise AssertionError("there is no end of time")


def timeline(calendar: WorkingTime, since: datetime, holds: Sequence[Hold]) -> Iterator[Span]:
    """All time from `since` on, with the holds, which may not overlap, laid over the calendar; without an end."""
    waiting = deque(sorted((max(begin, since), end) for begin, end in holds if end > max(begin, since)))
    for span in calendar.spans(since):
        at = span.start
        while waiting and waiting[0][0] < span.end:
            begin, end = waiting[0]
            if begin > at:
                yield span._replace(start=at, end=begin)
                at = begin
            stop = min(end, span.end)
            if stop > at:
                yield Span(at, stop, ON_HOLD)
                at = stop
            if end > span.end:
                break
            waiting.popleft()
        if at < span.end:
            yield span._replace(start=at)


def due_alerts(
    at: Moments, *, now: datetime, sent: Collection[str], responded_at: datetime | None, stopped_at: datetime | None
) -> tuple[str, ...]:
    """The alerts that have come and were not sent, in order, by the names of `Moments`.

    Whoever responded, or finished or held the ticket at `stopped_at`, before the moment came has kept the promise.
    """
    return tuple(
        name
        for name, moment in at._asdict().items()
        if moment is not None and name not in sent and moment <= now and moment < _until(name, responded_at, stopped_at)
    )


def next_alert(at: Moments, *, now: datetime, responded_at: datetime | None) -> datetime | None:
    """The next moment after `now` at which an alert of a ticket whose clock runs may come."""
    coming = [
        moment
        for name, moment in at._asdict().items()
        if moment is not None and now < moment < _until(name, responded_at, None)
    ]
    return min(coming, default=None)


def _until(name: str, responded_at: datetime | None, stopped_at: datetime | None) -> datetime:
    responded = responded_at if name.startswith("response") else None
    return min(responded or END_OF_TIME, stopped_at or END_OF_TIME)


class Segment(NamedTuple):
    """A piece of an explanation: its kind, how much of it counts, and how much counted up to its end."""

    span: Span
    counted_s: int
    total_s: int
    ahead: bool
    """Whether it is yet to come, if nothing happens to the ticket meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """How a target is used up; `consumed_s` and `remaining_s` add up to it, and the latter may be below 0."""

    segments: tuple[Segment, ...]
    consumed_s: int
    remaining_s: int
    deadline: datetime


def explain(
    spans: Iterator[Span], *, target_s: int, end: datetime, finished: bool, storm: tuple[datetime, datetime] | None
) -> Explanation:
    """Explain a target along a `timeline`.

    `end` is the present, or the moment at which the clock stopped for good if it is `finished`; otherwise the segments
    go on to the deadline. `storm` is the period of the ticket's weather event.
    """
    target = timedelta(seconds=target_s)
    counted = timedelta(0)
    consumed_s = 0
    deadline: datetime | None = None
    segments: list[Segment] = []
    for span in spans:
        if span.start >= end and deadline is not None:
            break
        cuts = [end, *(storm or ())]
        if span.kind == WORKING and deadline is None and span.end - span.start >= target - counted:
            deadline = span.start + (target - counted)
            cuts.append(deadline)
        for piece in _cut(span, cuts):
            ahead = piece.start >= end
            if ahead and deadline is not None and piece.start >= deadline:
                break
            before_s = counted // _SECOND
            if piece.kind == WORKING:
                counted += piece.end - piece.start
            total_s = counted // _SECOND
            if not ahead:
                consumed_s = total_s
            if not (ahead and finished):
                kind = IN_STORM if piece.kind == WORKING and _within(piece, storm) else piece.kind
                _add(segments, Segment(piece._replace(kind=kind), total_s - before_s, total_s, ahead), deadline)
    assert deadline is not None, "working time has no end"
    return Explanation(
        segments=_shortened(segments), consumed_s=consumed_s, remaining_s=target_s - consumed_s, deadline=deadline
    )


def _cut(span: Span, cuts: Sequence[datetime]) -> Iterator[Span]:
    at = span.start
    for cut in sorted(cut for cut in cuts if span.start < cut < span.end):
        if cut > at:
            yield span._replace(start=at, end=cut)
            at = cut
    yield span._replace(start=at)


def _within(piece: Span, storm: tuple[datetime, datetime] | None) -> bool:
    return storm is not None and storm[0] <= piece.start < storm[1]


def _add(segments: list[Segment], segment: Segment, deadline: datetime | None) -> None:
    """Add a segment, as part of the last one if it only goes on; a deadline is always a boundary."""
    last = segments[-1] if segments else None
    same = last is not None and (last.span[2:], last.ahead) == (segment.span[2:], segment.ahead)
    if last is None or not same or segment.span.start == deadline:
        segments.append(segment)
        return
    segments[-1] = Segment(
        last.span._replace(end=segment.span.end), last.counted_s + segment.counted_s, segment.total_s, segment.ahead
    )


def _shortened(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """At most SEGMENTS_MAX: those in the middle become one, which counts what they counted."""
    if len(segments) <= SEGMENTS_MAX:
        return tuple(segments)
    half = SEGMENTS_MAX // 2
    middle = segments[half : 1 - half]
    one = Segment(
        Span(middle[0].span.start, middle[-1].span.end, SEVERAL),
        sum(each.counted_s for each in middle),
        middle[-1].total_s,
        middle[-1].ahead,
    )
    return (*segments[:half], one, *segments[1 - half :])
