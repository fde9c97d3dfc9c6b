"""The breaker against a clock that only the test moves, and against sequences that nobody would think of."""

import random
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from busbar.connectors.breaker import Admission, BreakerPolicy, BreakerState, admit, failed, reset, succeeded
from busbar.connectors.contract import AuthExpired, DeliveryError, NothingToTell, Permanent, RateLimited, Retryable

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
POLICY = BreakerPolicy(failures_max=3)


def down() -> Retryable:
    return Retryable("The remote answered 503.")


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def attempt(state: BreakerState, error: DeliveryError | None, *, now: datetime) -> BreakerState:
    """One attempt from admission to result."""
    admission = admit(state, now=now, policy=POLICY)
    assert admission.allowed
    if error is None:
        return succeeded(admission.state, generation=admission.generation)
    return failed(admission.state, error, generation=admission.generation, now=now, policy=POLICY)


def opened() -> BreakerState:
    state = BreakerState()
    for _ in range(POLICY.failures_max):
        state = attempt(state, down(), now=NOON)
    return state


class TestAProbeThatAskedNothing:
    def test_lets_the_next_attempt_be_the_probe_at_once(self) -> None:
        pause = opened()
        assert pause.until is not None
        given_back = attempt(pause, NothingToTell("No such records."), now=pause.until)
        assert given_back.phase == "open"
        assert admit(given_back, now=pause.until, policy=POLICY).probe
        assert attempt(given_back, None, now=pause.until).phase == "closed"


class TestClosed:
    def test_opens_after_so_many_failures_in_a_row(self) -> None:
        state = attempt(attempt(BreakerState(), down(), now=NOON), down(), now=NOON)
        assert state.phase == "closed"
        assert attempt(state, down(), now=NOON).phase == "open"

    def test_a_success_starts_the_count_again(self) -> None:
        state = BreakerState()
        for error in (down(), down(), None, down(), down()):
            state = attempt(state, error, now=NOON)
        assert state.phase == "closed"

    def test_a_message_that_means_nothing_to_the_remote_says_nothing_of_it(self) -> None:
        state = BreakerState()
        for error in (down(), down(), NothingToTell("No such records."), down()):
            state = attempt(state, error, now=NOON)
        assert state.phase == "open"

    def test_a_message_that_the_remote_refuses_for_good_says_that_it_lives(self) -> None:
        state = BreakerState()
        for error in (down(), down(), Permanent("Unknown asset."), down(), down()):
            state = attempt(state, error, now=NOON)
        assert state.phase == "closed"


class TestOpen:
    def test_lets_nothing_in_and_says_when_it_will(self) -> None:
        admission = admit(opened(), now=after(1), policy=POLICY)
        assert not admission.allowed
        assert admission.retry_at is not None
        assert after(POLICY.open_s_first / 2) <= admission.retry_at <= after(POLICY.open_s_first)

    def test_waits_longer_each_time_up_to_its_limit(self) -> None:
        state, now, pauses = opened(), NOON, []
        for _ in range(12):
            assert state.until is not None
            pauses.append((state.until - now).total_seconds())
            now = state.until
            state = attempt(state, down(), now=now)
        assert pauses[4] > pauses[0] * 4
        assert max(pauses) <= POLICY.open_s_max
        assert pauses[-1] >= POLICY.open_s_max / 2

    def test_waits_at_least_as_long_as_the_remote_asked(self) -> None:
        state = BreakerState()
        for _ in range(POLICY.failures_max):
            state = attempt(state, Retryable("Maintenance.", after_s=1_800), now=NOON)
        assert state.until == after(1_800)

    def test_a_remote_cannot_close_the_endpoint_for_ever(self) -> None:
        state = attempt(BreakerState(), RateLimited("Quota.", until=after(10**9)), now=NOON)
        assert state.until == after(POLICY.pause_s_max)

    def test_the_late_result_of_an_older_attempt_changes_nothing(self) -> None:
        old = admit(BreakerState(), now=NOON, policy=POLICY)
        state = opened()
        assert succeeded(state, generation=old.generation) == state
        assert failed(state, down(), generation=old.generation, now=after(1), policy=POLICY) == state


class TestHalfOpen:
    def test_one_probe_goes_and_the_others_wait(self) -> None:
        first = admit(opened(), now=after(60), policy=POLICY)
        second = admit(first.state, now=after(60), policy=POLICY)
        assert first.allowed
        assert first.probe
        assert not second.allowed

    def test_a_good_probe_closes_and_forgets_the_backoff(self) -> None:
        assert attempt(opened(), None, now=after(60)) == BreakerState(generation=3)

    def test_a_bad_probe_opens_at_once(self) -> None:
        state = attempt(opened(), down(), now=after(60))
        assert (state.phase, state.openings) == ("open", 2)

    def test_a_worker_that_died_with_the_probe_is_forgotten(self) -> None:
        first = admit(opened(), now=after(60), policy=POLICY)
        second = admit(first.state, now=after(60 + POLICY.probe_s_max), policy=POLICY)
        assert second.probe
        assert succeeded(second.state, generation=first.generation) == second.state
        assert succeeded(second.state, generation=second.generation).phase == "closed"


class TestQuota:
    def test_pauses_until_the_quota_returns_then_sends_one(self) -> None:
        state = attempt(BreakerState(), RateLimited("100 an hour.", until=after(3_600)), now=NOON)
        assert state.reason == "rate_limited"
        assert not admit(state, now=after(3_599), policy=POLICY).allowed
        assert admit(state, now=after(3_600), policy=POLICY).probe

    def test_a_later_end_is_not_brought_forward(self) -> None:
        state = attempt(BreakerState(), RateLimited("Quota.", until=after(3_600)), now=NOON)
        assert failed(state, RateLimited("Quota.", until=after(60)), generation=0, now=NOON, policy=POLICY) == state

    def test_an_end_in_the_past_still_pauses_a_little(self) -> None:
        state = attempt(BreakerState(), RateLimited("Quota.", until=after(-5)), now=NOON)
        assert state.until == after(POLICY.open_s_first)


class TestCredentials:
    def test_pauses_until_somebody_enters_new_ones(self) -> None:
        state = attempt(BreakerState(), AuthExpired("401."), now=NOON)
        assert state.reason == "auth_expired"
        assert not admit(state, now=after(1), policy=POLICY).allowed
        assert admit(reset(state), now=after(1), policy=POLICY).allowed

    def test_tries_again_by_itself_after_the_interval(self) -> None:
        state = attempt(BreakerState(), AuthExpired("401."), now=NOON)
        assert admit(state, now=after(POLICY.auth_pause_s), policy=POLICY).probe

    def test_a_late_refusal_of_the_old_credentials_does_not_count(self) -> None:
        old = admit(BreakerState(), now=NOON, policy=POLICY)
        state = reset(attempt(BreakerState(), AuthExpired("401."), now=NOON))
        late = failed(state, AuthExpired("401."), generation=old.generation, now=after(1), policy=POLICY)
        assert late.phase == "closed"


errors = st.one_of(
    st.builds(Retryable, st.just("down"), after_s=st.none() | st.floats(0, 10**7)),
    st.builds(Permanent, st.just("bad")),
    st.builds(AuthExpired, st.just("401")),
    st.integers(-100, 10**7).map(lambda s: RateLimited("quota", until=NOON + timedelta(seconds=s))),
)


class Workers(RuleBasedStateMachine):
    """Several workers over one stored state, in any order, with attempts that answer late or never."""

    def __init__(self) -> None:
        super().__init__()
        self.state = BreakerState()
        self.now = NOON
        self.rng = random.Random(7)
        self.flying: list[Admission] = []

    @rule()
    def ask(self) -> None:
        admission = admit(self.state, now=self.now, policy=POLICY)
        if self.state.phase != "closed" and self.state.until is not None and self.now < self.state.until:
            assert not admission.allowed
            assert admission.retry_at == self.state.until
        else:
            assert admission.allowed
            self.flying.append(admission)
        assert admission.allowed != (admission.retry_at is not None)
        self.state = admission.state

    @rule(seconds=st.floats(0, 5_000))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), error=st.none() | errors)
    def answer(self, data: st.DataObject, error: DeliveryError | None) -> None:
        flight = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        before = self.state
        if error is None:
            self.state = succeeded(before, generation=flight.generation)
        else:
            self.state = failed(before, error, generation=flight.generation, now=self.now, policy=POLICY, rng=self.rng)
        if flight.generation == before.generation and flight.probe:
            closes = error is None or isinstance(error, Permanent)
            assert self.state.phase == ("closed" if closes else "open")
        elif flight.generation != before.generation and not isinstance(error, RateLimited):
            assert self.state == before

    @rule()
    def enter_new_credentials(self) -> None:
        self.state = reset(self.state)
        assert admit(self.state, now=self.now, policy=POLICY).allowed

    @invariant()
    def a_closed_breaker_has_fewer_failures_than_open_it(self) -> None:
        if self.state.phase == "closed":
            assert self.state.failures < POLICY.failures_max
            assert self.state.until is None
            assert self.state.reason is None
        else:
            assert self.state.until is not None
            assert self.state.reason is not None

    @invariant()
    def at_most_one_probe_decides(self) -> None:
        deciding = [f for f in self.flying if f.probe and f.generation == self.state.generation]
        assert len(deciding) <= (1 if self.state.phase == "half_open" else 0)

    @invariant()
    def no_pause_is_longer_than_the_policy_allows(self) -> None:
        if self.state.until is not None:
            assert self.state.until - self.now <= timedelta(seconds=POLICY.pause_s_max)

    @invariant()
    def the_state_survives_the_database(self) -> None:
        assert msgspec.json.decode(msgspec.json.encode(self.state), type=BreakerState) == self.state


TestWorkers = Workers.TestCase


class TestEveryOutage:
    @given(st.integers(0, 60), st.randoms())
    def test_ends_closed_once_the_remote_is_back(self, bad_probes: int, rng: random.Random) -> None:
        state, now = opened(), NOON
        for _ in range(bad_probes):
            assert state.until is not None
            now = state.until
            probe = admit(state, now=now, policy=POLICY)
            state = failed(probe.state, down(), generation=probe.generation, now=now, policy=POLICY, rng=rng)
            assert state.until is not None
            assert state.until - now <= timedelta(seconds=POLICY.open_s_max)
        assert state.until is not None
        assert attempt(state, None, now=state.until).phase == "closed"
