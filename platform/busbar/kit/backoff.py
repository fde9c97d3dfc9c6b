"""How long to wait before trying again."""

import random


def delay_s(attempt: int, *, first_s: float, max_s: float, rng: random.Random | None = None) -> float:
    """Exponential backoff with equal jitter: between half and the whole of `first_s * 2 ** (attempt - 1)`, capped.

    `attempt` counts from 1. The cap is applied before the jitter, so no delay exceeds `max_s` seconds.
    """
    whole = min(max_s, first_s * 2.0 ** min(attempt - 1, 40))
    return whole * (0.5 + (rng or random).random() / 2)
