"""Lockout and rate limits of signing in, and whose address counts."""

import asyncio
from typing import Any

import pytest

from busbar.auth.limits import (
    ACCOUNT_FAILURES_MAX,
    GLOBAL_FAILURES_MAX,
    SOURCE_FAILURES_MAX,
    Attempt,
    LoginLimits,
    source_of,
)
from busbar.auth.tests.support import ManualClock
from busbar.db import execute, fetchval
from busbar.errors import TooManyRequests

SOURCE = "192.0.2.7"


@pytest.fixture
def limits(database: str) -> LoginLimits:
    return LoginLimits(lockout="lock")


async def fail(limits: LoginLimits, clock: ManualClock, username: str = "maria", source: str = SOURCE) -> Attempt:
    return await limits.count(username, source, now=clock())


class TestOneAccountFromOneSource:
    async def test_is_locked_after_five_failures(self, limits: LoginLimits, clock: ManualClock) -> None:
        locked = [(await fail(limits, clock)).locked for _ in range(ACCOUNT_FAILURES_MAX + 1)]
        assert locked == [False] * 5 + [True]

    async def test_is_open_to_its_owner_at_another_place(self, limits: LoginLimits, clock: ManualClock) -> None:
        for _ in range(10):
            await fail(limits, clock)
        assert not (await fail(limits, clock, source="198.51.100.1")).locked

    async def test_is_open_again_fifteen_minutes_after_the_first_failure(
        self, limits: LoginLimits, clock: ManualClock
    ) -> None:
        for _ in range(ACCOUNT_FAILURES_MAX):
            await fail(limits, clock)
        clock.advance(minutes=14)
        for _ in range(ACCOUNT_FAILURES_MAX):
            assert (await fail(limits, clock)).locked
        clock.advance(minutes=1)
        assert not (await fail(limits, clock)).locked, "trying while locked must not prolong the lock"

    async def test_starts_anew_after_a_success(self, limits: LoginLimits, clock: ManualClock) -> None:
        for _ in range(4):
            attempt = await fail(limits, clock)
        await limits.forgive(attempt)
        locked = [(await fail(limits, clock)).locked for _ in range(5)]
        assert not any(locked)

    async def test_an_attempt_that_could_not_be_decided_does_not_count(
        self, limits: LoginLimits, clock: ManualClock
    ) -> None:
        for _ in range(ACCOUNT_FAILURES_MAX):
            await limits.withdraw(await fail(limits, clock))
        assert not (await fail(limits, clock)).locked

    async def test_attempts_at_the_same_time_are_counted_one_by_one(
        self, limits: LoginLimits, clock: ManualClock
    ) -> None:
        attempts = await asyncio.gather(*(fail(limits, clock) for _ in range(20)))
        assert sum(not attempt.locked for attempt in attempts) == ACCOUNT_FAILURES_MAX


class TestAlarm:
    async def test_warns_and_never_locks(self, database: str, clock: ManualClock) -> None:
        limits = LoginLimits(lockout="alarm")
        locked = [(await fail(limits, clock)).locked for _ in range(12)]
        assert not any(locked)


class TestOneSource:
    async def test_is_told_to_come_back_after_thirty_failures(self, limits: LoginLimits, clock: ManualClock) -> None:
        for number in range(SOURCE_FAILURES_MAX):
            await fail(limits, clock, username=f"user{number}")
        clock.advance(minutes=2)
        with pytest.raises(TooManyRequests) as caught:
            await fail(limits, clock, username="somebody")
        assert int(caught.value.headers["Retry-After"]) == 181
        clock.advance(minutes=3, seconds=1)
        await fail(limits, clock, username="somebody")

    async def test_attempts_on_a_locked_account_count_too(self, limits: LoginLimits, clock: ManualClock) -> None:
        for _ in range(SOURCE_FAILURES_MAX):
            await fail(limits, clock)
        with pytest.raises(TooManyRequests):
            await fail(limits, clock)

    async def test_a_refused_attempt_is_not_stored(self, limits: LoginLimits, clock: ManualClock) -> None:
        for number in range(SOURCE_FAILURES_MAX + 5):
            try:
                await fail(limits, clock, username=f"user{number}")
            except TooManyRequests:
                continue
        assert await fetchval("select count(*) from core.login_failure") == SOURCE_FAILURES_MAX


class TestAllSources:
    async def test_are_told_to_come_back_after_a_thousand_failures(
        self, limits: LoginLimits, clock: ManualClock
    ) -> None:
        await execute(
            "insert into core.login_failure (at, username, source) select $1, 'u' || n, 's' || n"
            " from generate_series(1, $2::integer) n",
            clock(),
            GLOBAL_FAILURES_MAX - 1,
        )
        await fail(limits, clock, source="198.51.100.1")
        with pytest.raises(TooManyRequests):
            await fail(limits, clock, source="198.51.100.2")
        await fail(LoginLimits(lockout="alarm"), clock, source="198.51.100.2")


def scope(client: str, *forwarded: str) -> Any:
    return {"client": (client, 1), "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded]}


class TestSource:
    def test_is_the_peer_when_no_proxy_is_trusted(self) -> None:
        assert source_of(scope("192.0.2.7", "203.0.113.9"), trusted_proxies=()) == "192.0.2.7"

    def test_is_what_the_trusted_proxy_saw_not_what_the_client_wrote(self) -> None:
        seen = scope("10.0.0.1", "1.1.1.1, 203.0.113.9")
        assert source_of(seen, trusted_proxies=("10.0.0.0/24",)) == "203.0.113.9"

    def test_goes_through_several_trusted_proxies_and_headers(self) -> None:
        seen = scope("10.0.0.1", "1.1.1.1", "203.0.113.9, 10.0.0.2")
        assert source_of(seen, trusted_proxies=("10.0.0.0/24",)) == "203.0.113.9"

    def test_stops_at_what_is_no_address(self) -> None:
        assert source_of(scope("10.0.0.1", "nonsense"), trusted_proxies=("10.0.0.0/24",)) == "10.0.0.1"

    def test_is_the_whole_network_of_an_ipv6_customer(self) -> None:
        one = source_of(scope("2001:db8:1:2:aaaa::1"), trusted_proxies=())
        other = source_of(scope("2001:db8:1:2:bbbb::2"), trusted_proxies=())
        assert one == other == "2001:db8:1:2::/64"
        assert source_of(scope("::ffff:192.0.2.7"), trusted_proxies=()) == "192.0.2.7"
        assert source_of(scope("::1"), trusted_proxies=()) == "::/64"

    def test_is_unknown_without_a_peer(self) -> None:
        assert source_of({"client": None, "headers": []}, trusted_proxies=()) == "unknown"  # type: ignore[typeddict-item]
