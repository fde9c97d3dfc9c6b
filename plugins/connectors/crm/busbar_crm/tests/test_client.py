"""Our client against the simulator and against answers that no organization should give."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from busbar_crm.answers import AuthExpired, ManyRecords, NotFound, QuotaExceeded, Refused, RemoteUnavailable
from busbar_crm.client import Part, SalesforceClient, text_literal
from busbar_crm.oauth import ClientCredentials, Session
from busbar_crm.simulator import Simulator
from busbar_crm.simulator.accounts import INTEGRATION_USER_ID
from busbar_crm.simulator.objects import CASE

ID = "Busbar_Id__c"


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


async def asked(session: aiohttp.ClientSession, response: Callable[[], web.StreamResponse]) -> None:
    """Log in, and look at an organization that answers every look with `response`."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "t"})
        return response()

    async with server(answer) as url:
        client = SalesforceClient(session, url, Session(ClientCredentials("a", "b")), api_version="v64.0", timeout_s=2)
        await client.get("Case", ID, "T1", fields=("Id",))


class TestRecords:
    async def test_upserts_by_external_id_and_tells_what_it_did(self, client: SalesforceClient) -> None:
        first = await client.upsert("Case", ID, "T1", {"Subject": "a"})
        again = await client.upsert("Case", ID, "T1", {"Subject": "b"})
        assert (first.created, again.created, first.id) == (True, False, again.id)
        assert await client.get("Case", ID, "T1", fields=("Subject",)) is not None

    @pytest.mark.parametrize("key", ["a/b", "a b?c=d&e", "100 %", "ä@{x.id}", "../Case"])
    async def test_any_external_id_stays_in_its_place_of_the_path(self, client: SalesforceClient, key: str) -> None:
        await client.upsert("Case", ID, key, {"Subject": "a"})
        found = await client.get("Case", ID, key, fields=("Id", ID))
        assert found is not None
        assert found[ID] == key

    async def test_answers_none_for_a_record_that_does_not_exist(self, client: SalesforceClient) -> None:
        assert await client.get("Case", ID, "none", fields=("Id",)) is None

    async def test_names_the_records_that_share_an_external_id(
        self, client: SalesforceClient, simulator: Simulator
    ) -> None:
        ids = [
            simulator.api.write("POST", CASE, None, {ID: "T1"}, user=INTEGRATION_USER_ID, correlation_id="").row["Id"]
            for _ in range(2)
        ]
        for call in (client.get("Case", ID, "T1", fields=("Id",)), client.upsert("Case", ID, "T1", {"Subject": "x"})):
            with pytest.raises(ManyRecords) as caught:
                await call
            assert list(caught.value.ids) == ids

    async def test_an_unknown_external_id_field_is_not_found(self, client: SalesforceClient) -> None:
        with pytest.raises(NotFound, match="external ID field does not exist"):
            await client.upsert("Case", "No__c", "T1", {})

    async def test_older_versions_of_the_api_tell_no_id_of_an_update(
        self, session: aiohttp.ClientSession, simulator: Simulator
    ) -> None:
        grant = ClientCredentials(simulator.credentials.client_id, simulator.credentials.client_secret)
        client = SalesforceClient(session, simulator.url, Session(grant), api_version="v45.0")
        assert (await client.upsert("Case", ID, "T1", {"Subject": "a"})).created
        assert (await client.upsert("Case", ID, "T1", {"Subject": "b"})).id == ""

    @pytest.mark.parametrize("name", ["Case/../User", "", "A?x"])
    async def test_refuses_a_name_that_would_leave_the_path(self, client: SalesforceClient, name: str) -> None:
        with pytest.raises(Refused, match="no name of an object or a field"):
            await client.upsert(name, ID, "T1", {})

    async def test_watches_what_is_left_of_the_quota(self, client: SalesforceClient, simulator: Simulator) -> None:
        simulator.set_quota(7)
        await client.limits()
        assert client.usage is not None
        assert (client.usage.used, client.usage.allowed) == (1, 7)


class TestComposite:
    def parts(self, client: SalesforceClient, **comment: object) -> list[Part]:
        path = client.path("sobjects", "Case", ID, "T1")
        said = {"ParentId": "@{case.id}", "CommentBody": "hello", **comment}
        return [
            Part(method="PATCH", path=path, reference="case", body={"Subject": "a"}),
            Part(method="POST", path=client.path("sobjects", "CaseComment"), reference="said", body=said),
        ]

    async def test_later_parts_refer_to_earlier_ones(self, client: SalesforceClient, simulator: Simulator) -> None:
        first, second = await client.composite(self.parts(client))
        assert simulator.comments("T1") == ["hello"]
        assert (first["created"], second["success"]) == (True, True)

    async def test_all_or_none_and_the_one_that_failed_is_told(
        self, client: SalesforceClient, simulator: Simulator
    ) -> None:
        with pytest.raises(Refused, match="STRING_TOO_LONG"):
            await client.composite(self.parts(client, CommentBody="x" * 4001))
        assert (simulator.cases(), simulator.effects) == ([], [])

    async def test_takes_25_parts_at_most(self, client: SalesforceClient) -> None:
        with pytest.raises(Refused, match="1 to 25 parts"):
            await client.composite(self.parts(client) * 13)


class TestQueries:
    async def test_follows_pages_up_to_the_bound(self, client: SalesforceClient, simulator: Simulator) -> None:
        for n in range(2100):
            simulator.api.records.insert(CASE, {ID: f"T{n:04}"}, user=INTEGRATION_USER_ID, now=simulator._clock())
        everything = await client.query(f"SELECT {ID} FROM Case ORDER BY {ID}", records_max=5000)
        assert [record[ID] for record in everything] == [f"T{n:04}" for n in range(2100)]
        assert len(await client.query("SELECT Id FROM Case", records_max=10)) == 10

    @pytest.mark.parametrize("text", ["it's", "a\\b", "x' OR Id != '", "line\nbreak"])
    async def test_a_text_is_looked_for_as_it_is(
        self, client: SalesforceClient, simulator: Simulator, text: str
    ) -> None:
        for subject in (text, "another"):
            simulator.api.records.insert(CASE, {"Subject": subject}, user=INTEGRATION_USER_ID, now=simulator._clock())
        found = await client.query(f"SELECT Subject FROM Case WHERE Subject = {text_literal(text)}", records_max=9)
        assert [record["Subject"] for record in found] == [text]

    async def test_a_next_page_elsewhere_is_not_followed(self, session: aiohttp.ClientSession) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.endswith("/token"):
                return web.json_response({"access_token": "t"})
            return web.json_response({"records": [], "done": False, "nextRecordsUrl": "@evil.example/"})

        async with server(answer) as url:
            client = SalesforceClient(session, url, Session(ClientCredentials("a", "b")), api_version="v64.0")
            with pytest.raises(RemoteUnavailable, match="next page"):
                await client.query("SELECT Id FROM Case", records_max=10)


class TestHostileAnswers:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b"<html>login</html>"),
            (200, b"[]"),
            (200, b"{}"),
            (200, b'{"Id": 5}'),
            (200, b"[" * 100_000),
            (200, b"\xff\xfe"),
            (302, b""),
            (403, b"<html>proxy</html>"),
            (404, b"<html>no such host</html>"),
            (500, b'[{"message": 5}]'),
            (503, b"[]"),
        ],
        ids=str,
    )
    async def test_none_of_them_counts_as_a_record_or_as_its_absence(
        self, session: aiohttp.ClientSession, status: int, body: bytes
    ) -> None:
        with pytest.raises(RemoteUnavailable):
            await asked(session, lambda: web.Response(status=status, body=body))

    async def test_a_bomb_is_not_unpacked(self, session: aiohttp.ClientSession) -> None:
        packed = gzip.compress(b" " * (64 * 1024 * 1024))
        with pytest.raises(RemoteUnavailable, match="longer than"):
            await asked(session, lambda: web.Response(body=packed, headers={"Content-Encoding": "gzip"}))

    async def test_a_concurrency_limit_is_a_short_wait(self, session: aiohttp.ClientSession) -> None:
        said = [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "ConcurrentRequests Limit exceeded."}]
        with pytest.raises(QuotaExceeded) as caught:
            await asked(session, lambda: web.json_response(said, status=403))
        assert caught.value.retry_after_s == 30

    async def test_the_moment_that_a_503_names_is_kept(self, session: aiohttp.ClientSession) -> None:
        with pytest.raises(RemoteUnavailable) as caught:
            await asked(session, lambda: web.Response(status=503, headers={"Retry-After": "17"}))
        assert caught.value.retry_after_s == 17

    async def test_too_many_logins_are_a_wait_and_no_fault_of_the_credentials(
        self, session: aiohttp.ClientSession
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            document = {"error": "rate_limit_exceeded", "error_description": "login rate exceeded"}
            return web.json_response(document, status=400)

        async with server(answer) as url:
            client = SalesforceClient(session, url, Session(ClientCredentials("a", "b")), api_version="v64.0")
            with pytest.raises(QuotaExceeded, match="Too many log-ins"):
                await client.limits()

    async def test_a_token_endpoint_without_a_token_is_an_outage(self, session: aiohttp.ClientSession) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({"ok": True})

        async with server(answer) as url:
            client = SalesforceClient(session, url, Session(ClientCredentials("a", "b")), api_version="v64.0")
            with pytest.raises(RemoteUnavailable, match="without an access_token"):
                await client.limits()

    async def test_an_inactive_user_is_a_matter_of_credentials(self, session: aiohttp.ClientSession) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({"error": "inactive_user", "error_description": "user is inactive"}, status=400)

        async with server(answer) as url:
            client = SalesforceClient(session, url, Session(ClientCredentials("a", "b")), api_version="v64.0")
            with pytest.raises(AuthExpired, match="inactive_user: user is inactive"):
                await client.limits()
