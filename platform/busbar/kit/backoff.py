"""How long to wait before trying again."""

import random
from collections.abc import Sequence
from typing import Final

STEP_JITTER: Final = 0.1


def delay_s(attempt: int, *, first_s: float, max_s: float, rng: random.Random | None = None) -> float:
    """Exponential backoff with equal jitter: between half and the whole of `first_s * 2 ** (attempt - 1)`, capped.

    `attempt` counts from 1. The cap is applied before the jitter, so no delay exceeds `max_s` seconds.
    """
    whole = min(max_s, first_s * 2.0 ** min(attempt - 1, 40))
    return whole * (0.5 + (rng or random).random() / 2)


def step_s(attempt: int, *, steps_s: Sequence[float], rng: random.Random | None = None) -> float:
    """The wait after this attempt, counted from 1: its step of the schedule, give or take a tenth; the last repeats."""
    whole = steps_s[min(attempt, len(steps_s)) - 1]
    return whole * (1 + (rng or random).uniform(-STEP_JITTER, STEP_JITTER))
