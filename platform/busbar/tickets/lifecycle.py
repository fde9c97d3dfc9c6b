"""The ticket's state machine (SPEC R1.5): pure rules, no clock and no database."""

from typing import Final

from busbar.errors import ForbiddenTransition, RuleViolated

OPEN: Final = "Open"
ASSIGNED: Final = "Assigned"
IN_PROGRESS: Final = "In_Progress"
CLOSED: Final = "Closed"
CANCELLED: Final = "Cancelled"

STATUSES: Final = (OPEN, ASSIGNED, IN_PROGRESS, CLOSED, CANCELLED)
FORWARD: Final = {OPEN: ASSIGNED, ASSIGNED: IN_PROGRESS, IN_PROGRESS: CLOSED}
"""The one next status of each; hold, cancel and reopen are verbs of their own."""
FINAL: Final = (CLOSED, CANCELLED)


def check_move(previous: str, new: str, *, on_hold: bool) -> None:
    """Refuse every move but Open → Assigned → In_Progress → Closed.

    Raises:
        ForbiddenTransition: the move is not one of these.
        RuleViolated: the ticket is on hold.
    """
    if FORWARD.get(previous) != new:
        allowed = FORWARD.get(previous)
        cure = f"the next status is {allowed}" if allowed else f"{previous} is final"
        raise ForbiddenTransition(f"A ticket cannot go from {previous} to {new}; {cure}.")
    if on_hold:
        raise RuleViolated("The ticket is on hold; resume it first.")


def check_hold(status: str, *, on_hold: bool) -> None:
    """Refuse to hold a finished ticket, or one that is on hold.

    Raises:
        ForbiddenTransition: it is finished, or on hold already.
    """
    if status in FINAL or on_hold:
        raise ForbiddenTransition("Only a ticket that is being worked on can be put on hold.")


def check_resume(*, on_hold: bool) -> None:
    """Refuse to resume what is not on hold.

    Raises:
        ForbiddenTransition: it is not on hold.
    """
    if not on_hold:
        raise ForbiddenTransition("The ticket is not on hold.")


def check_cancel(status: str) -> None:
    """Refuse to cancel a finished ticket.

    Raises:
        ForbiddenTransition: it is closed or cancelled.
    """
    if status in FINAL:
        raise ForbiddenTransition(f"A ticket that is {status} cannot be cancelled.")


def check_reopen(status: str) -> None:
    """Refuse to reopen what is not closed; Cancelled is terminal.

    Raises:
        ForbiddenTransition: it is not closed.
    """
    if status != CLOSED:
        raise ForbiddenTransition(f"Only a closed ticket can be reopened; this one is {status}.")


def path(previous: str, target: str) -> tuple[str, ...]:
    """The forward moves that lead from `previous` to `target`; empty when there is no such way, or none is needed.

    Remote systems may skip states; ours are walked one by one, each with its audit entry.
    """
    steps: list[str] = []
    status = previous
    while status != target and status in FORWARD:
        status = FORWARD[status]
        steps.append(status)
    return tuple(steps) if status == target else ()
