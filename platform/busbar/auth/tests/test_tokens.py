"""Tokens and the keys that sign them: what goes in comes out, and rotation refuses nobody."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.auth.fields import ROLES_MAX, SITES_MAX
from busbar.auth.keys import NoSigningKey, SigningKeys
from busbar.auth.service import Auth
from busbar.auth.tests.support import ManualClock, TestBox, context, identity
from busbar.auth.tokens import LEEWAY_S, TOKEN_BYTES_MAX, VERIFIED_MAX, UnknownKey
from busbar.db import execute, fetchval
from busbar.errors import BadToken, Conflict

NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,39}", fullmatch=True)


def issue(auth: Auth, *, now: datetime, not_after: datetime | None = None) -> str:
    token, _expires_in_s = auth.tokens.issue(
        user_id=str(uuid4()),
        username="maria",
        roles=("Engineer",),
        sites=("north",),
        family=uuid4(),
        now=now,
        not_after=not_after or now + timedelta(hours=12),
    )
    return token


class TestProperty11:
    """SPEC property 11: tokens carry user, roles and expiry, and survive decoding and encoding."""

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        user_id=st.uuids(),
        username=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=60),
        roles=st.lists(NAME, max_size=ROLES_MAX, unique=True),
        sites=st.lists(NAME, max_size=SITES_MAX, unique=True),
        now=st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis adds the zone
        session_s=st.integers(min_value=1, max_value=43_200),
    )
    async def test_a_token_carries_user_roles_and_expiry(
        self,
        auth: Auth,
        user_id: UUID,
        username: str,
        roles: list[str],
        sites: list[str],
        now: datetime,
        session_s: int,
    ) -> None:
        end = now + timedelta(seconds=session_s)
        token, expires_in_s = auth.tokens.issue(
            user_id=str(user_id),
            username=username,
            roles=tuple(roles),
            sites=tuple(sites),
            family=uuid4(),
            now=now,
            not_after=end,
        )
        claims = auth.tokens.verify(token.encode(), now=now)
        assert (claims.sub, claims.user_id, claims.username) == (str(user_id), str(user_id), username)
        assert (claims.roles, claims.sites) == (tuple(roles), tuple(sites))
        assert claims.exp - claims.iat == expires_in_s <= 600
        assert claims.exp <= end.timestamp()
        # An independent reader of the published keys agrees.
        public = jwt.PyJWK(auth.keys.jwks(now=now)["keys"][0]).key
        options = {"require": ["exp", "iat", "sub", "jti", "iss", "aud"], "verify_exp": False, "verify_iat": False}
        read = jwt.decode(token, public, algorithms=["EdDSA"], audience="busbar-api", issuer="busbar", options=options)
        assert (read["user_id"], read["roles"], read["exp"]) == (str(user_id), roles, claims.exp)
        assert jwt.get_unverified_header(token)["typ"] == "at+jwt"

    async def test_the_largest_allowed_token_fits(self, auth: Auth, clock: ManualClock) -> None:
        token, _expires_in_s = auth.tokens.issue(
            user_id=str(uuid4()),
            username="m" * 60,
            roles=tuple(f"{number:040}" for number in range(ROLES_MAX)),
            sites=tuple(f"{number:040}" for number in range(SITES_MAX)),
            family=uuid4(),
            now=clock(),
            not_after=clock() + timedelta(hours=1),
        )
        assert len(token) <= TOKEN_BYTES_MAX
        assert auth.tokens.verify(token.encode(), now=clock()).username == "m" * 60

    async def test_one_byte_more_than_allowed_is_refused_before_it_is_read(
        self, auth: Auth, clock: ManualClock
    ) -> None:
        start = issue(auth, now=clock()).partition(".")[0].encode() + b"."
        with pytest.raises(BadToken, match="too long"):
            auth.tokens.verify(start + b"A" * (TOKEN_BYTES_MAX + 1 - len(start)), now=clock())


class TestTheMemoryOfVerifiedTokens:
    async def test_a_remembered_token_still_expires(self, auth: Auth, clock: ManualClock) -> None:
        token = issue(auth, now=clock()).encode()
        auth.tokens.verify(token, now=clock())
        clock.advance(seconds=600 + LEEWAY_S)
        with pytest.raises(BadToken, match="expired"):
            auth.tokens.verify(token, now=clock())
        assert not auth.tokens._verified

    async def test_it_is_bounded(self, auth: Auth, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("busbar.auth.tokens.VERIFIED_MAX", 3)
        for _ in range(5):
            auth.tokens.verify(issue(auth, now=clock()).encode(), now=clock())
        assert len(auth.tokens._verified) == 3 < VERIFIED_MAX


class TestRotation:
    async def test_the_new_key_signs_and_the_old_one_verifies_until_its_tokens_are_gone(
        self, auth: Auth, clock: ManualClock
    ) -> None:
        old = issue(auth, now=clock()).encode()
        before = auth.keys.signer(now=clock())[0]
        clock.advance(seconds=1)
        assert await auth.rotate_keys(context(clock)) == auth.keys.signer(now=clock())[0] != before
        new = issue(auth, now=clock()).encode()
        clock.advance(seconds=600)
        assert auth.tokens.verify(old, now=clock()) and auth.tokens.verify(new, now=clock())
        assert len(auth.keys.jwks(now=clock())["keys"]) == 2
        clock.advance(seconds=30)
        with pytest.raises(UnknownKey):
            auth.tokens.verify(old, now=clock())
        assert [key["kid"] for key in auth.keys.jwks(now=clock())["keys"]] == [auth.keys.signer(now=clock())[0]]

    async def test_a_remembered_token_of_a_removed_key_is_refused(self, auth: Auth, clock: ManualClock) -> None:
        token = issue(auth, now=clock()).encode()
        auth.tokens.verify(token, now=clock())
        await auth.keys.rotate(now=clock(), verify_s=0)
        clock.advance(seconds=1)
        await auth.keys.reload(now=clock())
        with pytest.raises(UnknownKey):
            auth.tokens.verify(token, now=clock())

    async def test_the_private_half_of_an_old_key_is_erased(self, auth: Auth, clock: ManualClock) -> None:
        clock.advance(seconds=1)
        await auth.rotate_keys(context(clock))
        assert await fetchval(
            "select array_agg(private_encrypted) from core.signing_key where retired_at is not null"
        ) == [""]

    async def test_a_key_for_later_is_published_at_once_and_signs_when_its_time_has_come(
        self, auth: Auth, clock: ManualClock
    ) -> None:
        before = auth.keys.signer(now=clock())[0]
        kid = await auth.rotate_keys(context(clock), after_s=900)
        assert [key["kid"] for key in auth.keys.jwks(now=clock())["keys"]] == [before, kid]
        clock.advance(seconds=899)
        assert auth.keys.signer(now=clock())[0] == before
        old = issue(auth, now=clock()).encode()
        with pytest.raises(Conflict, match="a new key already"):
            await auth.rotate_keys(context(clock), after_s=60)
        clock.advance(seconds=1)
        assert auth.keys.signer(now=clock())[0] == kid
        assert jwt.get_unverified_header(issue(auth, now=clock()))["kid"] == kid
        assert auth.tokens.verify(old, now=clock())
        await auth.keys.erase(now=clock())
        erased = await fetchval("select private_encrypted = '' from core.signing_key where kid = $1", before)
        assert erased
        await auth.keys.reload(now=clock())
        assert [key["kid"] for key in auth.keys.jwks(now=clock())["keys"]] == [kid, before]
        clock.advance(seconds=630)
        assert [key["kid"] for key in auth.keys.jwks(now=clock())["keys"]] == [kid]

    async def test_that_waits_signs_at_once_when_that_is_wanted(self, auth: Auth, clock: ManualClock) -> None:
        before = auth.keys.signer(now=clock())[0]
        old = issue(auth, now=clock()).encode()
        kid = await auth.rotate_keys(context(clock), after_s=86_400)
        clock.advance(seconds=60)
        assert await auth.rotate_keys(context(clock)) == kid
        assert auth.keys.signer(now=clock())[0] == kid != before
        assert auth.tokens.verify(old, now=clock())
        clock.advance(seconds=630)
        with pytest.raises(UnknownKey):
            auth.tokens.verify(old, now=clock())
        assert await fetchval("select count(*) from core.signing_key") == 2

    async def test_leaves_a_key_that_is_long_gone_where_it_is(self, auth: Auth, clock: ManualClock) -> None:
        old = issue(auth, now=clock()).encode()
        await auth.rotate_keys(context(clock), after_s=60)
        clock.advance(seconds=60 + 630)
        await auth.rotate_keys(context(clock))
        with pytest.raises(UnknownKey):
            auth.tokens.verify(old, now=clock())

    async def test_by_a_clock_that_is_behind_takes_effect_too(self, auth: Auth, clock: ManualClock) -> None:
        before = auth.keys.signer(now=clock())[0]
        behind = ManualClock()
        behind.advance(seconds=-3_600)
        kid = await auth.keys.rotate(now=behind(), verify_s=0)
        await auth.keys.reload(now=clock())
        clock.advance(seconds=1)
        assert auth.keys.signer(now=clock())[0] == kid != before

    async def test_is_in_the_audit_trail(self, auth: Auth, clock: ManualClock) -> None:
        kid = await auth.rotate_keys(context(clock))
        assert await fetchval("select object_id from core.audit where action = 'signing_key.rotate'") == kid

    async def test_another_process_takes_a_token_of_a_key_it_has_not_seen(self, auth: Auth, clock: ManualClock) -> None:
        other = Auth(auth.settings, box=auth.keys._box, clock=clock)
        try:
            await other.start()
            await auth.rotate_keys(context(clock))
            other.directory._changed.clear()
            token = issue(auth, now=clock()).encode()
            with pytest.raises(BadToken, match="session has ended"):  # the key was found; the user is an invented one
                await other.authenticate(token)
        finally:
            other.close()

    async def test_strangers_tokens_cause_one_query_a_second(
        self, auth: Auth, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        reload = auth.keys.reload

        async def counted(*, now: datetime) -> None:
            asked.append(now)
            await reload(now=now)

        await auth.directory.refresh_if_needed()
        monkeypatch.setattr(auth.keys, "reload", counted)
        for _ in range(50):
            with pytest.raises(BadToken):
                await auth.authenticate(b"e30.e30.e30")
        assert len(asked) == 1

    async def test_the_key_set_shows_no_private_half(self, auth: Auth, clock: ManualClock) -> None:
        (key,) = auth.keys.jwks(now=clock())["keys"]
        assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
        assert key["kid"] == auth.keys.signer(now=clock())[0]


class TestStart:
    async def test_without_keys_nothing_is_signed(self, database: str) -> None:
        keys = SigningKeys(TestBox())
        with pytest.raises(NoSigningKey):
            keys.signer(now=datetime.now(UTC))
        with pytest.raises(NoSigningKey):
            await keys.reload(now=datetime.now(UTC))

    async def test_a_restart_keeps_the_key(self, database: str) -> None:
        box, clock = TestBox(), ManualClock()
        kids = []
        for _ in range(2):
            keys = SigningKeys(box)
            await keys.start(now=clock())
            kids.append(keys.signer(now=clock())[0])
        assert kids[0] == kids[1]

    async def test_a_private_half_that_was_moved_to_another_key_does_not_open(self, database: str) -> None:
        async with identity() as auth:
            await execute("update core.signing_key set kid = 'other'")
            with pytest.raises(Exception):  # noqa: B017 - the box decides which
                await auth.keys.reload(now=auth.clock())
