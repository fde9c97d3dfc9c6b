"""Passwords: the policy, the hash, and the two threads that check them."""

import asyncio

import pytest

from busbar.auth.passwords import WAITING_MAX, WORKERS, Passwords, WeakPassword, check_policy, is_outdated
from busbar.errors import Unavailable

PASSWORD = "correct horse battery"


@pytest.fixture
def passwords():
    made = Passwords()
    yield made
    made.close()


class TestPolicy:
    @pytest.mark.parametrize("password", ["x" * 11, "short", "", "x" * 129, "aaaaaaaaaaaa", "Maria.Weber.1"])
    def test_refuses_what_is_short_long_or_the_name(self, password: str) -> None:
        with pytest.raises(WeakPassword) as caught:
            check_policy(password, username="maria.weber.1")
        assert caught.value.errors[0].field == "password"

    @pytest.mark.parametrize("password", [PASSWORD, "abcdefghijkl", "ñandú-ñandú-ñandú", "123456789012", "x y z" * 25])
    def test_asks_for_no_kinds_of_characters(self, password: str) -> None:
        check_policy(password, username="maria")


class TestHash:
    async def test_is_argon2id_of_19_mib_two_passes_one_lane(self, passwords: Passwords) -> None:
        stored = await passwords.hash(PASSWORD)
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert not is_outdated(stored)

    async def test_knows_the_right_password_from_a_wrong_one(self, passwords: Passwords) -> None:
        stored = await passwords.hash(PASSWORD)
        assert await passwords.verify(PASSWORD, stored)
        assert not await passwords.verify(PASSWORD + " ", stored)

    async def test_nobodys_password_is_never_right(self, passwords: Passwords) -> None:
        assert not await passwords.verify(PASSWORD, None)

    async def test_takes_both_ways_to_type_a_character(self, passwords: Passwords) -> None:
        stored = await passwords.hash("caf\u00e9 caf\u00e9 caf\u00e9")
        assert await passwords.verify("cafe\u0301 cafe\u0301 cafe\u0301", stored)


class TestTheQueue:
    async def test_refuses_more_than_it_can_do_soon_and_then_recovers(self, passwords: Passwords) -> None:
        limit = WORKERS + WAITING_MAX
        results = await asyncio.gather(
            *(passwords.verify(PASSWORD, None) for _ in range(limit + 5)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, Unavailable)]
        assert len(refused) == 5 and results.count(False) == limit
        assert int(refused[0].headers["Retry-After"]) >= 1
        assert not await passwords.verify(PASSWORD, None)

    async def test_a_caller_that_leaves_does_not_free_its_place_before_the_thread_is_done(
        self, passwords: Passwords
    ) -> None:
        leaving = asyncio.create_task(passwords.verify(PASSWORD, None))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert passwords._busy == 1
        assert not await passwords.verify(PASSWORD, None)
        assert not await passwords.verify(PASSWORD, None)
        assert passwords._busy == 0

    async def test_the_loop_goes_on_while_passwords_are_checked(self, passwords: Passwords) -> None:
        checking = asyncio.gather(*(passwords.verify(PASSWORD, None) for _ in range(6)))
        turns = 0
        while not checking.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 10
