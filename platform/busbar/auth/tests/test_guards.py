"""What passes the guard, and what does not: declarations, tokens, permissions, and a corpus of forgeries."""

from collections import Counter
from typing import Any
from uuid import UUID

import httpx
import pytest

from busbar.auth import commands, sessions
from busbar.auth.first_start import ensure_admin
from busbar.auth.service import Auth
from busbar.auth.tests.forgery import Forger, forgeries
from busbar.auth.tests.support import PASSWORD, ManualClock, context, running
from busbar.db import execute, start_pool, stop_pool

SOURCE = "192.0.2.7"


@pytest.fixture
async def maria(auth: Auth, clock: ManualClock) -> UUID:
    await ensure_admin(auth, password=PASSWORD)
    await execute("insert into core.site (site_id, name) values ('north', 'North')")
    return await commands.create_user(
        auth,
        context(clock),
        username="maria",
        display_name="Maria Weber",
        password=PASSWORD,
        roles=["Engineer"],
        sites=["north"],
    )


async def token_of(auth: Auth, username: str = "maria") -> str:
    signed_in = await sessions.login(auth, context(auth.clock), username=username, password=PASSWORD, source=SOURCE)
    return signed_in.access_token


async def ask(client: httpx.AsyncClient, path: str, token: str | None = None, **headers: str) -> Any:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await client.get(path, headers=headers)


class TestDeclarations:
    async def test_an_open_route_needs_no_token_and_has_an_anonymous_actor(self, auth: Auth) -> None:
        async with running(auth) as client:
            answer = await ask(client, "/open")
        assert (answer.status_code, answer.json()) == (200, {"username": "anonymous"})

    async def test_a_bad_token_does_no_harm_on_an_open_route(self, auth: Auth) -> None:
        async with running(auth) as client:
            assert (await ask(client, "/open", "nonsense")).status_code == 200

    async def test_a_signed_route_is_left_to_its_handler(self, auth: Auth) -> None:
        async with running(auth) as client:
            assert (await ask(client, "/signed")).status_code == 200

    async def test_a_route_that_declares_nothing_is_refused_even_to_an_administrator(
        self, auth: Auth, maria: UUID
    ) -> None:
        async with running(auth) as client:
            for token in (None, await token_of(auth, "admin")):
                answer = await ask(client, "/forgotten", token)
                assert (answer.status_code, answer.json()["code"]) == (403, "AUTH_003")

    async def test_what_an_address_takes_is_told_to_who_is_signed_in(self, auth: Auth, maria: UUID) -> None:
        async with running(auth) as client:
            assert (await client.options("/pm")).status_code == 401
            answer = await client.options("/pm", headers={"Authorization": f"Bearer {await token_of(auth)}"})
        assert answer.status_code == 204 and "GET" in answer.headers["Allow"]

    async def test_without_a_token_it_is_auth_001(self, auth: Auth) -> None:
        async with running(auth) as client:
            for path in ("/mine", "/pm"):
                answer = await ask(client, path)
                assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_001")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    async def test_with_the_permission_it_passes(self, auth: Auth, maria: UUID) -> None:
        async with running(auth) as client:
            for username in ("maria", "admin"):
                assert (await ask(client, "/pm", await token_of(auth, username))).status_code == 200

    async def test_without_the_permission_it_is_auth_003(self, auth: Auth, maria: UUID, clock: ManualClock) -> None:
        token = await token_of(auth)
        await commands.change_user(context(clock), maria, roles=[])
        async with running(auth) as client:
            answer = await ask(client, "/pm", token)
            assert (answer.status_code, answer.json()["code"]) == (403, "AUTH_003")
            assert "pm.read" in answer.json()["detail"]
            assert (await ask(client, "/mine", token)).status_code == 200

    async def test_the_context_has_the_actor_its_sites_and_a_correlation_id(self, auth: Auth, maria: UUID) -> None:
        async with running(auth) as client:
            answer = (await ask(client, "/mine", await token_of(auth))).json()
        assert (answer["username"], answer["sites"]) == ("maria", ["north"])
        assert answer["correlation_id"]


class TestForgeries:
    async def test_every_forged_token_is_answered_401(self, auth: Auth, maria: UUID) -> None:
        valid = await token_of(auth)
        cases = list(forgeries(auth, valid))
        names = Counter(name for name, _token in cases)
        assert len(cases) >= 60 and names.most_common(1)[0][1] == 1, names.most_common(1)
        passed = []
        async with running(auth) as client:
            assert (await ask(client, "/pm", valid)).status_code == 200
            for name, token in cases:
                answer = await ask(client, "/pm", token)
                if (answer.status_code, answer.json()["code"]) != (401, "AUTH_002"):
                    passed.append((name, answer.status_code))
            assert (await ask(client, "/pm", valid)).status_code == 200
        assert passed == []

    async def test_the_forger_can_make_a_valid_token(self, auth: Auth, maria: UUID) -> None:
        forger = Forger(auth, await token_of(auth))
        async with running(auth) as client:
            assert (await ask(client, "/pm", forger.with_claims())).status_code == 200
            assert (await ask(client, "/pm", forger.with_header())).status_code == 200

    async def test_raised_roles_in_a_signed_token_give_nothing(
        self, auth: Auth, maria: UUID, clock: ManualClock
    ) -> None:
        forger = Forger(auth, await token_of(auth))
        await commands.change_user(context(clock), maria, roles=[])
        async with running(auth) as client:
            assert (await ask(client, "/pm", forger.with_claims(roles=["Admin"]))).status_code == 403

    @pytest.mark.parametrize("scheme", ["Basic", "bearer2", "Token", ""])
    async def test_other_schemes_are_refused(self, auth: Auth, maria: UUID, scheme: str) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            answer = await ask(client, "/pm", Authorization=f"{scheme} {token}")
        assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_002")

    async def test_two_authorization_headers_are_refused(self, auth: Auth, maria: UUID) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
            answer = await client.get("/pm", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_002")

    async def test_a_token_in_the_address_or_a_cookie_is_not_looked_at(self, auth: Auth, maria: UUID) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            for path, headers in ((f"/pm?access_token={token}", {}), ("/pm", {"Cookie": f"access_token={token}"})):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_001")


class TestTime:
    async def test_a_token_expires_after_ten_minutes_and_the_leeway(
        self, auth: Auth, maria: UUID, clock: ManualClock
    ) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            clock.advance(minutes=10, seconds=29)
            assert (await ask(client, "/pm", token)).status_code == 200
            clock.advance(seconds=1)
            assert (await ask(client, "/pm", token)).status_code == 401

    async def test_a_token_from_a_clock_that_is_ahead_passes_within_the_leeway(
        self, auth: Auth, maria: UUID, clock: ManualClock
    ) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            clock.advance(seconds=-29)
            assert (await ask(client, "/pm", token)).status_code == 200
            clock.advance(seconds=-2)
            assert (await ask(client, "/pm", token)).status_code == 401


class TestWithoutADatabase:
    async def test_a_known_user_is_served_for_a_moment_then_told_to_come_back(
        self, auth: Auth, maria: UUID, database: str
    ) -> None:
        token = await token_of(auth)
        async with running(auth) as client:
            assert (await ask(client, "/pm", token)).status_code == 200
            await stop_pool("requests")
            try:
                assert (await ask(client, "/pm", token)).status_code == 200
                auth.directory._loaded_at_s -= 4.1
                answer = await ask(client, "/pm", token)
            finally:
                await start_pool(database)
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
            assert (await ask(client, "/pm", token)).status_code == 200
