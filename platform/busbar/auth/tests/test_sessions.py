"""Sign-in, refresh rotation with reuse detection, and the end of sessions."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import argon2
import asyncpg
import msgspec
import pytest

from busbar.auth import commands, sessions
from busbar.auth.actor import Context
from busbar.auth.first_start import ensure_admin
from busbar.auth.limits import ACCOUNT_FAILURES_MAX
from busbar.auth.service import Auth
from busbar.auth.sessions import SignedIn
from busbar.auth.tests.support import PASSWORD, ManualClock, context
from busbar.db import execute, fetch, fetchrow, fetchval, transaction
from busbar.db.wakeup import Channel, Listener, signal
from busbar.errors import BadToken, Unavailable

SOURCE = "192.0.2.7"


@pytest.fixture
async def maria(auth: Auth, clock: ManualClock) -> UUID:
    """A user of one role and one site, beside the administrator."""
    await ensure_admin(auth, password=PASSWORD)
    await execute("insert into core.site (site_id, name) values ('north', 'North')")
    return await commands.create_user(
        auth,
        context(clock),
        username="Maria",
        display_name="Maria Weber",
        password=PASSWORD,
        roles=["Engineer"],
        sites=["north"],
    )


@pytest.fixture
def ctx(clock: ManualClock) -> Context:
    return context(clock)


async def sign_in(auth: Auth, ctx: Context, **changes: str) -> SignedIn:
    return await sessions.login(auth, ctx, **({"username": "maria", "password": PASSWORD, "source": SOURCE} | changes))


async def accepted(auth: Auth, signed_in: SignedIn) -> bool:
    """Whether the access token passes now."""
    try:
        await auth.authenticate(signed_in.access_token.encode())
    except BadToken:
        return False
    return True


async def refused(work: Awaitable[SignedIn]) -> str:
    with pytest.raises(BadToken) as caught:
        await work
    return caught.value.detail


class TestLogin:
    async def test_gives_a_token_with_the_users_roles_and_sites(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        signed_in = await sign_in(auth, ctx)
        actor, claims = await auth.authenticate(signed_in.access_token.encode())
        assert (claims.user_id, claims.roles, claims.sites) == (str(maria), ("Engineer",), ("north",))
        assert claims.exp - claims.iat == signed_in.expires_in_s == 600
        assert actor.permissions == {"pm.read", "pm.write"}

    async def test_takes_the_name_in_any_case(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        assert await accepted(auth, await sign_in(auth, ctx, username="MARIA"))

    async def test_is_on_the_audit_trail_under_the_users_name(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        await sign_in(auth, ctx)
        row = await fetchrow("select actor_id, actor_name from core.audit where action = 'login'")
        assert row is not None and (row["actor_id"], row["actor_name"]) == (str(maria), "maria")

    async def test_says_the_same_to_wrong_unknown_inactive_and_locked(
        self, auth: Auth, ctx: Context, maria: UUID
    ) -> None:
        wrong = await refused(sign_in(auth, ctx, password="wrong password"))
        unknown = await refused(sign_in(auth, ctx, username="nobody"))
        await commands.change_user(ctx, maria, active=False)
        inactive = await refused(sign_in(auth, ctx))
        await commands.change_user(ctx, maria, active=True)
        for _ in range(ACCOUNT_FAILURES_MAX):
            await refused(sign_in(auth, ctx, password="wrong password"))
        locked = await refused(sign_in(auth, ctx))
        assert wrong == unknown == inactive == locked

    async def test_makes_the_hash_anew_when_its_parameters_are_outdated(
        self, auth: Auth, ctx: Context, maria: UUID
    ) -> None:
        weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
        await execute("update core.user_account set password_hash = $1 where user_id = $2", weak, maria)
        await sign_in(auth, ctx)
        stored = await fetchval("select password_hash from core.user_account where user_id = $1", maria)
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert await accepted(auth, await sign_in(auth, ctx))

    async def test_fails_when_the_password_changes_while_it_is_being_checked(
        self, auth: Auth, ctx: Context, maria: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verify = auth.passwords.verify

        async def verify_slowly(password: str, stored: str | None) -> bool:
            right = await verify(password, stored)
            await commands.set_password(auth, ctx, maria, password="another long password")
            return right

        monkeypatch.setattr(auth.passwords, "verify", verify_slowly)
        await refused(sign_in(auth, ctx))
        assert await fetchval("select count(*) from core.refresh_token") == 0

    async def test_refuses_to_run_inside_a_callers_transaction(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        with pytest.raises(RuntimeError):
            async with transaction():
                await sign_in(auth, ctx)

    async def test_drops_old_sessions_and_failures(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        await sign_in(auth, ctx)
        await refused(sign_in(auth, ctx, password="wrong password"))
        clock.advance(days=8)
        await sign_in(auth, ctx)
        assert await fetchval("select count(*) from core.refresh_token") == 1
        assert await fetchval("select count(*) from core.login_failure") == 0

    async def test_that_cannot_ask_for_the_key_is_no_failed_one(
        self, auth: Auth, ctx: Context, maria: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refuse() -> None:
            raise Unavailable("The database cannot be asked now.", retry_after_s=1)

        monkeypatch.setattr(auth.directory, "refresh_if_needed", refuse)
        with pytest.raises(Unavailable):
            await sign_in(auth, ctx)
        assert await fetchval("select count(*) from core.login_failure") == 0


class TestRefresh:
    async def test_gives_a_successor_that_works(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        third = await sessions.refresh(auth, ctx, token=second.refresh_token)
        assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
        assert await accepted(auth, third)

    async def test_gives_the_same_successor_again_within_the_grace(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        clock.advance(seconds=10)
        again = await sessions.refresh(auth, ctx, token=first.refresh_token)
        assert again.refresh_token == second.refresh_token
        assert await accepted(auth, await sessions.refresh(auth, ctx, token=again.refresh_token))

    async def test_ends_the_session_when_a_used_token_comes_again_after_the_grace(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        clock.advance(seconds=11)
        await refused(sessions.refresh(auth, ctx, token=first.refresh_token))
        await refused(sessions.refresh(auth, ctx, token=second.refresh_token))
        assert not await accepted(auth, first) and not await accepted(auth, second)
        row = await fetchrow("select details::text from core.audit where action = 'refresh_token_reused'")
        assert row is not None and "maria" in row["details"]

    async def test_ends_the_session_when_the_successor_was_used_already(
        self, auth: Auth, ctx: Context, maria: UUID
    ) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        third = await sessions.refresh(auth, ctx, token=second.refresh_token)
        await refused(sessions.refresh(auth, ctx, token=first.refresh_token))
        await refused(sessions.refresh(auth, ctx, token=third.refresh_token))

    async def test_leaves_other_sessions_of_the_user_alone(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        stolen, other = await sign_in(auth, ctx), await sign_in(auth, ctx)
        await sessions.refresh(auth, ctx, token=stolen.refresh_token)
        clock.advance(seconds=60)
        await refused(sessions.refresh(auth, ctx, token=stolen.refresh_token))
        assert await accepted(auth, await sessions.refresh(auth, ctx, token=other.refresh_token))

    async def test_twenty_at_once_make_one_branch(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        first = await sign_in(auth, ctx)
        answers = await asyncio.gather(*(sessions.refresh(auth, ctx, token=first.refresh_token) for _ in range(20)))
        assert len({answer.refresh_token for answer in answers}) == 1
        assert await fetchval("select count(*) from core.refresh_token where used_at is null") == 1
        assert await accepted(auth, await sessions.refresh(auth, ctx, token=answers[0].refresh_token))

    async def test_refreshes_retries_and_logouts_at_once_never_wait_for_each_other(
        self, auth: Auth, ctx: Context, maria: UUID
    ) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        actor, claims = await auth.authenticate(first.access_token.encode())
        own = msgspec.structs.replace(ctx, actor=actor)
        work = [sessions.refresh(auth, ctx, token=token.refresh_token) for token in (first, second) * 4]
        answers = await asyncio.gather(*work, sessions.logout(own, family=UUID(claims.sid)), return_exceptions=True)
        assert {type(answer) for answer in answers} <= {SignedIn, BadToken, type(None)}

    async def test_ends_after_half_an_hour_without_a_refresh(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        first = await sign_in(auth, ctx)
        clock.advance(minutes=29)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        clock.advance(minutes=30)
        await refused(sessions.refresh(auth, ctx, token=second.refresh_token))

    async def test_ends_twelve_hours_after_the_sign_in(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        current = await sign_in(auth, ctx)
        for _ in range(28):
            clock.advance(minutes=25)
            current = await sessions.refresh(auth, ctx, token=current.refresh_token)
        clock.advance(minutes=15)
        last = await sessions.refresh(auth, ctx, token=current.refresh_token)
        assert last.expires_in_s == 300, "the access token must not outlive the session"
        clock.advance(minutes=5)
        await refused(sessions.refresh(auth, ctx, token=last.refresh_token))

    async def test_refuses_somebody_who_was_deactivated(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        first = await sign_in(auth, ctx)
        await execute("update core.user_account set active = false where user_id = $1", maria)
        await refused(sessions.refresh(auth, ctx, token=first.refresh_token))

    @pytest.mark.parametrize("token", ["x", "ü" * 40, "../../etc/passwd", "0" * 200])
    async def test_refuses_what_it_never_issued(self, auth: Auth, ctx: Context, token: str) -> None:
        await refused(sessions.refresh(auth, ctx, token=token))

    async def test_stores_no_token_in_the_clear(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        first = await sign_in(auth, ctx)
        second = await sessions.refresh(auth, ctx, token=first.refresh_token)
        stored = str([tuple(row) for row in await fetch("select * from core.refresh_token")])
        assert first.refresh_token not in stored and second.refresh_token not in stored


Ending = Callable[[Auth, Context, UUID, SignedIn], Awaitable[object]]


async def _logout(auth: Auth, ctx: Context, user_id: UUID, signed_in: SignedIn) -> None:
    actor, claims = await auth.authenticate(signed_in.access_token.encode())
    await sessions.logout(msgspec.structs.replace(ctx, actor=actor), family=UUID(claims.sid))


async def _deactivate(auth: Auth, ctx: Context, user_id: UUID, signed_in: SignedIn) -> None:
    await commands.change_user(ctx, user_id, active=False)


async def _new_password(auth: Auth, ctx: Context, user_id: UUID, signed_in: SignedIn) -> None:
    await commands.set_password(auth, ctx, user_id, password="another long password")


class TestTheEndOfASession:
    @pytest.mark.parametrize("end", [_logout, _deactivate, _new_password])
    async def test_refuses_its_access_and_refresh_tokens_at_once(
        self, auth: Auth, ctx: Context, maria: UUID, end: Ending
    ) -> None:
        signed_in = await sign_in(auth, ctx)
        assert await accepted(auth, signed_in)
        await end(auth, ctx, maria, signed_in)
        assert not await accepted(auth, signed_in)
        await refused(sessions.refresh(auth, ctx, token=signed_in.refresh_token))

    async def test_a_new_password_works_in_the_same_second(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        await _new_password(auth, ctx, maria, await sign_in(auth, ctx))
        assert await accepted(auth, await sign_in(auth, ctx, password="another long password"))

    async def test_logging_out_twice_is_harmless(self, auth: Auth, ctx: Context, maria: UUID) -> None:
        signed_in = await sign_in(auth, ctx)
        actor, claims = await auth.authenticate(signed_in.access_token.encode())
        await sessions.logout(msgspec.structs.replace(ctx, actor=actor), family=UUID(claims.sid))
        await sessions.logout(msgspec.structs.replace(ctx, actor=actor), family=UUID(claims.sid))
        assert await fetchval("select count(*) from core.audit where action = 'logout'") == 1

    async def test_tokens_from_before_the_moment_sessions_became_void_are_refused(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        signed_in = await sign_in(auth, ctx)
        clock.advance(minutes=2)
        await execute("update core.user_account set sessions_valid_from = $1", clock())
        await auth.directory.renew()
        assert not await accepted(auth, signed_in)


class TestAnotherProcess:
    """The directory of a second process, which hears of changes only by its own clock."""

    async def test_refuses_a_deactivated_user_within_four_seconds(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        signed_in = await sign_in(auth, ctx)
        assert await accepted(auth, signed_in)
        await execute("update core.user_account set active = false where user_id = $1", maria)
        assert await accepted(auth, signed_in), "this process was told nothing yet"
        auth.directory._loaded_at_s -= 4.1
        assert not await accepted(auth, signed_in)

    async def test_refuses_at_once_when_it_is_notified(
        self, auth: Auth, ctx: Context, maria: UUID, database: str
    ) -> None:
        listener = Listener(database, worker=1)
        await listener.start()
        other = await asyncpg.connect(database)
        try:
            signed_in = await sign_in(auth, ctx)
            assert await accepted(auth, signed_in)
            with signal(Channel.CONFIG) as heard:
                heard.clear()
                await other.execute("update core.user_account set active = false where user_id = $1", maria)
                await other.execute("select pg_notify('busbar_config', '')")
                await asyncio.wait_for(heard.wait(), 5)
            assert not await accepted(auth, signed_in)
        finally:
            await other.close()
            await listener.stop()

    async def test_applies_a_changed_role_within_four_seconds(
        self, auth: Auth, ctx: Context, maria: UUID, clock: ManualClock
    ) -> None:
        signed_in = await sign_in(auth, ctx)
        await auth.authenticate(signed_in.access_token.encode())
        await execute("update core.role set permissions = '{pm.read}' where role = 'Engineer'")
        auth.directory._loaded_at_s -= 4.1
        actor, _claims = await auth.authenticate(signed_in.access_token.encode())
        assert actor.permissions == {"pm.read"}
