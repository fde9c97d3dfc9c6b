"""The circuit breaker of an endpoint: pure functions from a stored state to the next one, with the clock as argument.

Several workers share one state through a row of the database: read it with a lock, apply one function, write it
back. A worker that dies as the prober is forgotten when its time is up.
"""

import random
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from busbar.connectors.contract import AuthExpired, DeliveryError, NothingToTell, Permanent, RateLimited, Retryable
from busbar.kit.backoff import delay_s

Phase = Literal["closed", "open", "half_open"]
Reason = Literal["failures", "rate_limited", "auth_expired"]


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens, and for how long."""

    failures_max: int = 5
    """So many Retryable failures in a row open it."""
    open_s_first: float = 5.0
    open_s_max: float = 300.0
    """Longest pause by backoff, in seconds, jitter included."""
    probe_s_max: float = 120.0
    """A probe that has said nothing for so long is given up; longer than the total timeout of a request."""
    auth_pause_s: float = 900.0
    """Expired credentials are tried again after so long, in case they were renewed at the remote."""
    pause_s_max: float = 86_400.0
    """Longest pause that a remote may ask for."""


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored for an endpoint; `BreakerState()` is a new one."""

    phase: Phase = "closed"
    failures: int = 0
    """Retryable failures in a row, while closed."""
    openings: int = 0
    """Openings in a row without a success between them: the exponent of the backoff."""
    reason: Reason | None = None
    """Why it is not closed."""
    until: datetime | None = None
    """Open: no attempt before. Half-open: the probe is given up then. Closed: None."""
    generation: int = 0
    """Grows with every change of phase: tells the result of an attempt that was let in before the change."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to "may I try now?"; `state` is to be stored whenever it differs from the one that was read."""

    state: BreakerState
    allowed: bool
    probe: bool = False
    """This attempt alone decides whether the endpoint is well again."""
    generation: int = 0
    """To be handed back with the result of the attempt."""
    retry_at: datetime | None = None
    """When refused: nothing will be let in before."""


def admit(state: BreakerState, *, now: datetime, policy: BreakerPolicy) -> Admission:
    """Let an attempt pass, make it the one probe, or refuse it."""
    if state.phase == "closed":
        return Admission(state=state, allowed=True, generation=state.generation)
    if state.until is not None and now < state.until:
        return Admission(state=state, allowed=False, retry_at=state.until)
    probing = _changed(state, phase="half_open", until=now + timedelta(seconds=policy.probe_s_max))
    return Admission(state=probing, allowed=True, probe=True, generation=probing.generation)


def succeeded(state: BreakerState, *, generation: int) -> BreakerState:
    """An attempt was delivered, or refused for good: either way the remote works."""
    if generation != state.generation:
        return state  # let in before a change of phase: says nothing about the remote as it is now
    if state.phase == "closed":
        return state if state.failures == 0 else msgspec.structs.replace(state, failures=0)
    return BreakerState(generation=state.generation + 1)


def failed(
    state: BreakerState,
    error: DeliveryError,
    *,
    generation: int,
    now: datetime,
    policy: BreakerPolicy,
    rng: random.Random | None = None,
) -> BreakerState:
    """An attempt failed with `error`. A Permanent error is the message's fault, and counts as a sign of life."""
    if isinstance(error, NothingToTell):
        # The remote was not asked, so nothing is known of it: a probe is given back for the next attempt to be one.
        probing = state.phase == "half_open" and generation == state.generation
        return _changed(state, phase="open", until=now) if probing else state
    if isinstance(error, RateLimited):
        return _pause_until(state, error.until, now=now, policy=policy)
    if isinstance(error, Permanent):
        return succeeded(state, generation=generation)
    if generation != state.generation:
        return state
    if isinstance(error, AuthExpired):
        return _changed(
            state, phase="open", reason="auth_expired", until=now + timedelta(seconds=policy.auth_pause_s), failures=0
        )
    failures = state.failures + 1
    if state.phase == "closed" and failures < policy.failures_max:
        return msgspec.structs.replace(state, failures=failures)
    openings = state.openings + 1
    pause_s = delay_s(openings, first_s=policy.open_s_first, max_s=policy.open_s_max, rng=rng)
    if isinstance(error, Retryable) and error.after_s is not None:
        pause_s = min(max(pause_s, error.after_s), policy.pause_s_max)
    until = now + timedelta(seconds=pause_s)
    return _changed(state, phase="open", reason="failures", until=until, failures=0, openings=openings)


def reset(state: BreakerState) -> BreakerState:
    """Somebody entered new credentials or settings: closed, and results of attempts with the old ones do not count."""
    return BreakerState(generation=state.generation + 1)


def _pause_until(state: BreakerState, until: datetime, *, now: datetime, policy: BreakerPolicy) -> BreakerState:
    """A quota holds for the account, so whoever learns of it stops all; a later end is never brought forward."""
    until = min(until, now + timedelta(seconds=policy.pause_s_max))
    if until <= now:
        until = now + timedelta(seconds=policy.open_s_first)
    if state.phase == "open" and state.until is not None and state.until >= until:
        return state
    reason: Reason = "auth_expired" if state.phase == "open" and state.reason == "auth_expired" else "rate_limited"
    return _changed(state, phase="open", reason=reason, until=until, failures=0)


def _changed(state: BreakerState, **changes: object) -> BreakerState:
    return msgspec.structs.replace(state, generation=state.generation + 1, **changes)
