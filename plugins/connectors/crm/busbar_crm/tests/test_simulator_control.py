"""The control API, sessions, the state file, the webhook's form, and the simulator as a process."""

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from busbar.sdk import Receipt
from busbar_crm.client import Part, SalesforceClient
from busbar_crm.oauth import ClientCredentials, Session
from busbar_crm.settings import CrmSettings
from busbar_crm.simulator import Credentials, Options, Simulator, run_simulator
from busbar_crm.tests.conftest import MovableClock, ServiceOffice
from busbar_crm.tests.golden import TICKET, golden

ID = "Busbar_Id__c"


@pytest.fixture
async def control(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.url + "/_simulator/") as opened:
        yield opened


async def called(control: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with control.request(method, path, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


class TestControl:
    async def test_lists_and_filters_what_was_written(
        self, control: aiohttp.ClientSession, office: ServiceOffice
    ) -> None:
        await office.deliver(golden("ticket_created"))
        await office.deliver(golden("ticket_updated"))
        await office.deliver(golden("cost_posted"))
        for query, numbers in (
            ("", [1, 2, 3, 4, 5]),
            (f"external_id={TICKET}", [1, 2, 3]),
            (f"external_id={TICKET}&object=CaseComment", [3]),
            ("method=PATCH", [2]),
            ("object=Case&after_n=2", [4]),
        ):
            found = await called(control, "GET", f"effects?{query}")
            assert [effect["n"] for effect in found["effects"]] == numbers, query

    async def test_counts_records_and_shared_external_ids(
        self, control: aiohttp.ClientSession, client: SalesforceClient
    ) -> None:
        for key in ("T1", "T2"):
            await client.upsert("Case", ID, key, {"Subject": "x"})
        await client.create("Case", {ID: "T2"})
        counts = await called(control, "GET", "records")
        assert (counts["count"], counts["shared_external_ids"]) == (3, 1)
        assert (await called(control, "GET", "records?external_id=T2"))["count"] == 2

    async def test_an_agent_changes_and_comments(
        self, control: aiohttp.ClientSession, client: SalesforceClient, simulator: Simulator
    ) -> None:
        await client.upsert("Case", ID, "T1", {})
        change = {"external_id": "T1", "fields": {"Status": "Working"}, "comment": "On it"}
        answer = await called(control, "POST", "change", change)
        assert (answer["result"]["Status"], simulator.comments("T1")) == ("Working", ["On it"])
        assert [effect.method for effect in simulator.effects] == ["POST", "CHANGE", "COMMENT"]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"external_id": "none", "comment": "x"}, 404),
            ({"id": "none", "comment": "x"}, 404),
            ({"external_id": "T1", "fields": {"Status": "Lost"}}, 400),
            ({"external_id": "T1", "field": {}}, 400),
        ],
    )
    async def test_an_agent_is_bound_by_the_rules_too(
        self, control: aiohttp.ClientSession, client: SalesforceClient, body: dict[str, Any], status: int
    ) -> None:
        await client.upsert("Case", ID, "T1", {})
        async with control.post("change", json=body) as response:
            assert response.status == status

    async def test_a_reset_goes_back_to_the_start(
        self, control: aiohttp.ClientSession, client: SalesforceClient
    ) -> None:
        await client.upsert("Case", ID, "T1", {})
        await called(control, "POST", "misbehave", {"kind": "locked"})
        assert (await called(control, "POST", "quota", {"requests_max": 1}))["quota"]["requests_max"] == 1
        await called(control, "POST", "reset")
        status = await called(control, "GET", "status")
        assert status == {
            "status": "ok",
            "requests": 0,
            "effects": 0,
            "misbehaviours": [],
            "webhook": None,
            "quota": {"requests_max": 100_000, "used": 0},
        }
        # Sessions were ended too, and the client gets itself a new one.
        assert (await client.upsert("Case", ID, "T1", {})).created

    async def test_sessions_can_be_ended(
        self, control: aiohttp.ClientSession, client: SalesforceClient, simulator: Simulator
    ) -> None:
        await client.limits()
        await called(control, "POST", "end-sessions")
        await client.limits()
        assert simulator.requests == 2 + 3

    async def test_wakes_who_waits_for_an_effect(self, simulator: Simulator, client: SalesforceClient) -> None:
        waiting = asyncio.create_task(simulator.wait_for_effects(1, external_id="T1", timeout_s=5))
        await client.upsert("Case", ID, "T0", {})
        await client.upsert("Case", ID, "T1", {})
        assert [effect.n for effect in await waiting] == [2]

    def test_two_simulators_never_share_a_secret(self) -> None:
        assert Credentials().client_secret != Credentials().client_secret


class TestSessions:
    async def test_last_as_long_as_they_are_used(
        self, client: SalesforceClient, simulator: Simulator, clock: MovableClock
    ) -> None:
        for _ in range(3):
            clock.move(7000)
            await client.limits()
        assert simulator.requests == 1 + 3
        clock.move(7201)
        await client.limits()
        assert simulator.requests == 4 + 3

    @pytest.mark.parametrize(
        ("form", "error"),
        [
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"grant_type": "client_credentials", "client_id": "x"}, "invalid_client_id"),
            ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x"}, "invalid_grant"),
        ],
    )
    async def test_refusals_are_the_token_endpoints_own(
        self, session: aiohttp.ClientSession, simulator: Simulator, form: dict[str, str], error: str
    ) -> None:
        async with session.post(f"{simulator.url}/services/oauth2/token", data=form) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, error)

    async def test_id_and_secret_may_come_as_basic_authentication(
        self, session: aiohttp.ClientSession, simulator: Simulator
    ) -> None:
        plain = f"{simulator.credentials.client_id}:{simulator.credentials.client_secret}"
        headers = {"Authorization": "Basic " + base64.b64encode(plain.encode()).decode()}
        form = {"grant_type": "client_credentials"}
        async with session.post(f"{simulator.url}/services/oauth2/token", data=form, headers=headers) as answer:
            told = await answer.json()
        assert (answer.status, told["token_type"], told["instance_url"]) == (200, "Bearer", simulator.url)


class TestStateFile:
    async def test_restores_cases_comments_and_history_after_a_restart(
        self, tmp_path: Path, session: aiohttp.ClientSession, clock: MovableClock
    ) -> None:
        options = Options(tls_port=None, state_file=tmp_path / "state.jsonl")
        grant = ClientCredentials(options.credentials.client_id, options.credentials.client_secret)
        async with run_simulator(options, clock=clock) as simulator:
            client = SalesforceClient(session, simulator.url, Session(grant), api_version="v64.0")
            path = client.path("sobjects", "Case", ID, "T1")
            body = {"ParentId": "@{c.id}", "CommentBody": "hello"}
            said = Part(method="POST", path=client.path("sobjects", "CaseComment"), reference="s", body=body)
            await client.composite([Part(method="PATCH", path=path, reference="c", body={"Subject": "a"}), said])
            await client.upsert("Case", ID, "T2", {})
            clock.move(60)
            simulator.change(external_id="T1", fields={"Status": "Working"}, comment="On it")
            simulator.change(external_id="T2", delete=True)
            before = simulator.api.records.tables
        # A kill may cut off the line that was being written.
        with (tmp_path / "state.jsonl").open("ab") as file:
            file.write(b'{"n":7,"time":"2026-11')

        clock.move(3600)
        async with run_simulator(options, clock=clock) as simulator:
            assert simulator.api.records.tables == before
            methods = [effect.method for effect in simulator.effects]
            assert methods == ["POST", "POST", "POST", "CHANGE", "COMMENT", "REMOVE"]
            client = SalesforceClient(session, simulator.url, Session(grant), api_version="v64.0")
            await client.upsert("Case", ID, "T3", {})
            assert (simulator.cases("T3")[0]["CaseNumber"], simulator.effects[-1].n) == ("00001003", 7)


class Process:
    """A simulator in a process of its own."""

    def __init__(self, state: Path, ca_file: Path, *arguments: str) -> None:
        self._arguments = ["--state-file", str(state), "--ca-file", str(ca_file), *arguments]
        self.ready: dict[str, Any] = {}

    async def __aenter__(self) -> "Process":
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "busbar_crm.simulator", *self._arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.ready = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 10))
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process.returncode is None:
            self.process.terminate()
        assert await asyncio.wait_for(self.process.wait(), 10) in (0, -9)


class TestProcess:
    async def test_killed_after_the_effect_it_comes_back_and_a_repeat_doubles_nothing(
        self, tmp_path: Path, office: ServiceOffice, session: aiohttp.ClientSession
    ) -> None:
        secrets = ["--client-id", "id", "--client-secret", "a-client-secret", "--port", "0", "--tls-port", "0"]
        state, ca_file = tmp_path / "state.jsonl", tmp_path / "ca.pem"

        async def told(process: Process) -> Receipt:
            office.settings = CrmSettings(base_url=process.ready["url"], client_id="id", timeout_s=5)
            office.secrets = {"client_secret": "a-client-secret"}
            return await office.deliver(golden("approval_requested"))

        async with Process(state, ca_file, *secrets) as first:
            receipt = await told(first)
            first.process.kill()
            await first.process.wait()
        async with Process(state, ca_file, *secrets) as second:
            repeated = await told(second)
            async with session.get(f"{second.ready['url']}/_simulator/records?external_id={TICKET}") as answer:
                records = await answer.json()
        assert (repeated.duplicate, repeated.remote_id) == (True, receipt.remote_id)
        assert (records["count"], len(records["comments"])) == (1, 1)

    async def test_serves_tls_with_a_certificate_that_can_be_checked(self, tmp_path: Path) -> None:
        arguments = ("--port", "0", "--tls-port", "0")
        async with Process(tmp_path / "state.jsonl", tmp_path / "ca.pem", *arguments) as started:
            trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=started.ready["ca_file"]))
            async with aiohttp.ClientSession(connector=trusting) as session:
                grant = ClientCredentials(started.ready["client_id"], started.ready["client_secret"])
                client = SalesforceClient(session, started.ready["tls_url"], Session(grant), api_version="v64.0")
                assert (await client.upsert("Case", ID, "T1", {})).created
