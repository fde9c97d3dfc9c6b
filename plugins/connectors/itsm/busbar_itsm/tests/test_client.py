"""Our client against the simulator: what it does, and what it makes of every misbehaviour."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from busbar_itsm.answers import AuthExpired, QueryIgnored, RateLimited, RecordGone, Refused, RemoteUnavailable
from busbar_itsm.client import BasicAuth, ClientCredentials, TableClient
from busbar_itsm.simulator import Simulator
from busbar_itsm.tests.conftest import MovableClock

INCIDENT = {"short_description": "Feeder 12 tripped", "correlation_id": "TKT-PM-20261123-0001", "impact": "1"}


def oauth_client(
    session: aiohttp.ClientSession, simulator: Simulator, *, secret: str | None = None, clock: MovableClock
) -> TableClient:
    auth = ClientCredentials(
        simulator.credentials.client_id,
        secret or simulator.credentials.client_secret,
        clock=lambda: clock.now.timestamp(),
    )
    return TableClient(session, simulator.url, auth, timeout_s=5)


@asynccontextmanager
async def server(answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A remote that answers as the test says; yields its address."""
    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class TestRecords:
    async def test_creates_finds_reads_and_updates_an_incident(self, client: TableClient) -> None:
        created = await client.create("incident", {**INCIDENT, "urgency": "1"})
        assert created["number"] == "INC0010001"
        assert created["priority"] == "1"

        found = await client.find("incident", {"correlation_id": INCIDENT["correlation_id"]}, fields=("number",))
        assert found == [
            {"number": "INC0010001", "correlation_id": INCIDENT["correlation_id"], "sys_id": created["sys_id"]}
        ]

        updated = await client.update("incident", created["sys_id"], {"state": "2"})
        assert (updated["state"], updated["sys_mod_count"]) == ("2", "1")
        read = await client.get("incident", created["sys_id"], fields=("state",))
        assert read == {"state": "2", "sys_id": created["sys_id"]}

    async def test_shows_references_as_plain_sys_ids(self, client: TableClient) -> None:
        created = await client.create("incident", {**INCIDENT, "caller_id": "a" * 32})
        assert created["caller_id"] == "a" * 32

    async def test_answers_none_for_a_record_that_does_not_exist(self, client: TableClient) -> None:
        assert await client.get("incident", "0" * 32) is None

    async def test_tells_that_an_updated_record_is_gone(self, client: TableClient) -> None:
        with pytest.raises(RecordGone):
            await client.update("incident", "0" * 32, {"state": "2"})

    async def test_finds_the_oldest_first_when_asked(self, client: TableClient, clock: MovableClock) -> None:
        first = await client.create("incident", INCIDENT)
        clock.move(1)
        await client.create("incident", INCIDENT)
        found = await client.find(
            "incident", {"correlation_id": INCIDENT["correlation_id"]}, limit=1, order_by="sys_created_on"
        )
        assert [record["sys_id"] for record in found] == [first["sys_id"]]

    @pytest.mark.parametrize("api_version", ["", "v1", "v2"])
    async def test_finds_nothing_on_any_version_of_the_api(
        self, session: aiohttp.ClientSession, simulator: Simulator, basic: BasicAuth, api_version: str
    ) -> None:
        client = TableClient(session, simulator.url, basic, api_version=api_version)
        assert await client.find("incident", {"correlation_id": "no-such"}) == []

    async def test_forwards_the_correlation_id_on_every_call(self, client: TableClient, simulator: Simulator) -> None:
        created = await client.create("incident", INCIDENT, headers={"X-Correlation-ID": "req-1"})
        await client.update("incident", created["sys_id"], {"state": "2"}, headers={"X-Correlation-ID": "req-2"})
        assert [effect.request_correlation_id for effect in simulator.effects] == ["req-1", "req-2"]


class TestIgnoredQuery:
    async def test_refuses_records_that_do_not_match_because_the_field_is_unknown(self, client: TableClient) -> None:
        await client.create("incident", INCIDENT)
        with pytest.raises(QueryIgnored, match="u_ticket_id"):
            await client.find("incident", {"u_ticket_id": "TKT-PM-20261123-0001"})

    async def test_leaves_out_records_that_differ_in_letter_case_only(self, session: aiohttp.ClientSession) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            records = [{"sys_id": "1" * 32, "correlation_id": "Abc"}, {"sys_id": "2" * 32, "correlation_id": "abc"}]
            return web.json_response({"result": records})

        async with server(answer) as url:
            found = await TableClient(session, url, BasicAuth("u", "p")).find("incident", {"correlation_id": "abc"})
        assert [record["sys_id"] for record in found] == ["2" * 32]

    @pytest.mark.parametrize("value", ["", "a^b", "a\nb"])
    async def test_refuses_values_that_would_mean_another_query(self, client: TableClient, value: str) -> None:
        with pytest.raises(Refused, match="cannot be looked up"):
            await client.find("incident", {"correlation_id": value})

    @pytest.mark.parametrize("table", ["incident/../sys_user", "", "Incident?x"])
    async def test_refuses_a_table_name_that_would_leave_the_path(self, client: TableClient, table: str) -> None:
        with pytest.raises(Refused, match="no table name"):
            await client.find(table, {})


class TestCredentials:
    async def test_a_wrong_password_is_told_at_once(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        client = TableClient(session, simulator.url, BasicAuth("busbar.integration", "wrong"))
        with pytest.raises(AuthExpired, match="User Not Authenticated"):
            await client.find("incident", {})
        assert simulator.requests == 1

    async def test_one_token_serves_many_requests(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        client = oauth_client(session, simulator, clock=clock)
        await asyncio.gather(*(client.find("incident", {}) for _ in range(5)))
        assert simulator.requests == 5 + 1

    async def test_fetches_a_new_token_before_the_old_one_expires(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        client = oauth_client(session, simulator, clock=clock)
        await client.find("incident", {})
        clock.move(1799 - 20)
        await client.find("incident", {})
        assert simulator.requests == 4

    async def test_a_revoked_token_is_replaced_and_the_request_repeated_once(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        client = oauth_client(session, simulator, clock=clock)
        await client.find("incident", {})
        simulator.accounts.revoke_tokens()
        created = await client.create("incident", INCIDENT)
        assert created["number"] == "INC0010001"
        assert len(simulator.effects) == 1

    async def test_gives_up_when_a_new_token_is_rejected_too(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        simulator.misbehave("unauthorized")
        client = oauth_client(session, simulator, clock=clock)
        with pytest.raises(AuthExpired):
            await client.find("incident", {})
        assert simulator.requests == 4

    async def test_a_wrong_client_secret_is_told_without_showing_it(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        client = oauth_client(session, simulator, secret="not-the-secret", clock=clock)
        with pytest.raises(AuthExpired) as caught:
            await client.find("incident", {})
        assert "access_denied" in str(caught.value)
        assert "not-the-secret" not in str(caught.value)

    async def test_an_outage_of_the_token_endpoint_is_an_outage(
        self, session: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        simulator.misbehave("server_error", path_contains="/oauth_token.do")
        with pytest.raises(RemoteUnavailable):
            await oauth_client(session, simulator, clock=clock).find("incident", {})


class TestMisbehaviour:
    async def test_a_server_error_is_an_outage_that_passes(self, client: TableClient, simulator: Simulator) -> None:
        simulator.misbehave("server_error", count=1, status=500)
        with pytest.raises(RemoteUnavailable, match="500"):
            await client.create("incident", INCIDENT)
        await client.create("incident", INCIDENT)
        assert len(simulator.effects) == 1

    async def test_a_used_up_quota_says_when_to_come_back(self, client: TableClient, simulator: Simulator) -> None:
        simulator.misbehave("rate_limit", delay_s=17)
        with pytest.raises(RateLimited) as caught:
            await client.find("incident", {})
        assert caught.value.retry_after_s == 17

    async def test_a_closed_connection_is_an_outage(self, client: TableClient, simulator: Simulator) -> None:
        simulator.misbehave("down")
        with pytest.raises(RemoteUnavailable):
            await client.create("incident", INCIDENT)
        assert simulator.effects == []

    async def test_a_refused_connection_is_an_outage(self, session: aiohttp.ClientSession, basic: BasicAuth) -> None:
        with socket.socket() as reserved:
            # Bound and not listening: nobody else can take the port, and connecting is refused.
            reserved.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
            with pytest.raises(RemoteUnavailable, match="No connection") as caught:
                await TableClient(session, url, basic).create("incident", INCIDENT)
        assert not caught.value.uncertain

    async def test_a_page_instead_of_json_is_an_outage(self, client: TableClient, simulator: Simulator) -> None:
        simulator.misbehave("wrong_body")
        with pytest.raises(RemoteUnavailable, match="hibernating"):
            await client.find("incident", {})

    async def test_a_slow_answer_is_an_outage_after_the_timeout(
        self, session: aiohttp.ClientSession, simulator: Simulator, basic: BasicAuth
    ) -> None:
        simulator.misbehave("slow", delay_s=30, count=1)
        client = TableClient(session, simulator.url, basic, timeout_s=0.1)
        with pytest.raises(RemoteUnavailable, match=r"0\.1 s"):
            await client.find("incident", {})

    async def test_a_write_whose_answer_is_lost_is_found_by_looking(
        self, session: aiohttp.ClientSession, simulator: Simulator, basic: BasicAuth, client: TableClient
    ) -> None:
        simulator.misbehave("timeout_after_effect", count=1)
        hasty = TableClient(session, simulator.url, basic, timeout_s=0.2)
        with pytest.raises(RemoteUnavailable) as caught:
            await hasty.create("incident", INCIDENT)
        assert caught.value.uncertain
        found = await client.find("incident", {"correlation_id": INCIDENT["correlation_id"]})
        assert len(found) == len(simulator.effects) == 1

    async def test_a_broken_rule_is_permanent_and_says_which(self, client: TableClient) -> None:
        created = await client.create("incident", INCIDENT)
        with pytest.raises(Refused, match="Resolution code") as caught:
            await client.update("incident", created["sys_id"], {"state": "6"})
        assert caught.value.status == 403
        assert not isinstance(caught.value, RecordGone)

    async def test_an_unknown_table_is_permanent(self, client: TableClient) -> None:
        with pytest.raises(Refused, match="Invalid table u_nothing"):
            await client.create("u_nothing", INCIDENT)


class TestHostileAnswers:
    @pytest.mark.parametrize(
        "body",
        [b"", b"null", b"[]", b'"x"', b"{}", b'{"result": []}', b'{"result": {"sys_id": 5}}', b"[" * 100_000],
        ids=["empty", "null", "array", "text", "no result", "a list", "no sys_id", "deep nesting"],
    )
    async def test_a_success_without_a_record_is_an_outage(self, session: aiohttp.ClientSession, body: bytes) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=201, body=body, content_type="application/json")

        async with server(answer) as url:
            with pytest.raises(RemoteUnavailable):
                await TableClient(session, url, BasicAuth("u", "p")).create("incident", INCIDENT)

    async def test_stops_reading_a_body_that_is_too_long_even_if_it_was_small_on_the_wire(
        self, session: aiohttp.ClientSession
    ) -> None:
        bomb = gzip.compress(b'{"result": [' + b" " * 50_000_000 + b"]}")

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

        async with server(answer) as url:
            with pytest.raises(RemoteUnavailable, match="longer than 1048576 bytes"):
                await TableClient(session, url, BasicAuth("u", "p")).find("incident", {})

    async def test_does_not_follow_a_redirect_with_our_credentials(self, session: aiohttp.ClientSession) -> None:
        seen: list[str] = []

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(request.path)
            return web.Response(status=302, headers={"Location": "/login.do"})

        async with server(answer) as url:
            with pytest.raises(RemoteUnavailable, match="302"):
                await TableClient(session, url, BasicAuth("u", "p")).find("incident", {})
        assert seen == ["/api/now/table/incident"]

    async def test_a_404_page_of_a_proxy_is_an_outage_and_not_a_missing_record(
        self, session: aiohttp.ClientSession
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=404, text="<html>Not found</html>", content_type="text/html")

        async with server(answer) as url:
            client = TableClient(session, url, BasicAuth("u", "p"))
            for call in (client.find("incident", {}), client.get("incident", "0" * 32)):
                with pytest.raises(RemoteUnavailable):
                    await call

    @pytest.mark.parametrize(
        ("headers", "expected_s"),
        [
            ({"Retry-After": "120"}, 120),
            ({"Retry-After": "999999999"}, 86_400),
            ({"Retry-After": "soon"}, 60),
            ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
            ({"X-RateLimit-Reset": "12"}, 1),
            ({}, 60),
        ],
    )
    async def test_bounds_the_wait_that_a_quota_asks_for(
        self, session: aiohttp.ClientSession, headers: dict[str, str], expected_s: float
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({"error": {"message": "Rate limit exceeded"}}, status=429, headers=headers)

        async with server(answer) as url:
            with pytest.raises(RateLimited) as caught:
                await TableClient(session, url, BasicAuth("u", "p")).find("incident", {})
        assert caught.value.retry_after_s == expected_s
