"""The control API, the effect log with its file, the webhook, and the simulator as a process."""

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from busbar_itsm.answers import RemoteUnavailable
from busbar_itsm.client import BasicAuth, TableClient
from busbar_itsm.simulator import KINDS, Credentials, Options, Simulator, run_simulator, start_simulator
from busbar_itsm.tests.conftest import MovableClock

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ok!").decode()


class Receiver:
    """A webhook receiver that answers with the given statuses, then 204, and keeps what it got."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((headers, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = "http://{}:{}/inbound".format(*runner.addresses[0][:2])
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def simulator(clock: MovableClock) -> AsyncIterator[Simulator]:
    options = Options(tls_port=None, webhook_retry_delays_s=(0.0, 0.0))
    async with run_simulator(options, clock=clock) as running:
        yield running


@pytest.fixture
async def control(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.url + "/_simulator/") as opened:
        yield opened


async def called(control: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with control.request(method, path, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


class TestEffects:
    async def test_lists_and_filters_what_was_written(
        self, control: aiohttp.ClientSession, client: TableClient
    ) -> None:
        first = await client.create("incident", {"correlation_id": "T1"}, headers={"X-Correlation-ID": "req-1"})
        await client.create("incident", {"correlation_id": "T2"})
        await client.find("incident", {})
        await client.update("incident", first["sys_id"], {"state": "2", "comments": "on it"})

        everything = await called(control, "GET", "effects")
        assert [(effect["n"], effect["method"]) for effect in everything["effects"]] == [
            (1, "POST"),
            (2, "POST"),
            (3, "PATCH"),
        ]
        assert everything["effects"][0]["request_correlation_id"] == "req-1"
        assert everything["effects"][2]["changed"] == ["incident_state", "state", "comments"]
        for query, numbers in (
            ("correlation_id=T1", [1, 3]),
            ("method=POST", [1, 2]),
            ("after_n=2", [3]),
            ("request_correlation_id=req-1", [1]),
            ("correlation_id=T1&limit=1", [1]),
        ):
            found = await called(control, "GET", f"effects?{query}")
            assert [effect["n"] for effect in found["effects"]] == numbers, query

    async def test_counts_records_and_shared_correlation_ids(
        self, control: aiohttp.ClientSession, client: TableClient
    ) -> None:
        for name in ("T1", "T2", "T2"):
            await client.create("incident", {"correlation_id": name})
        counts = await called(control, "GET", "records")
        assert (counts["count"], counts["shared_correlation_ids"], counts["tables"]["incident"]) == (3, 1, 3)
        assert (await called(control, "GET", "records?correlation_id=T2"))["count"] == 2

    async def test_wakes_who_waits_for_an_effect(self, simulator: Simulator, client: TableClient) -> None:
        waiting = asyncio.create_task(simulator.wait_for_effects(1, correlation_id="T1", timeout_s=5))
        await client.create("incident", {"correlation_id": "T0"})
        await client.create("incident", {"correlation_id": "T1"})
        assert [effect.n for effect in await waiting] == [2]
        with pytest.raises(TimeoutError):
            await simulator.wait_for_effects(2, correlation_id="T1", timeout_s=0.01)


class TestMisbehave:
    async def test_misbehaves_for_some_requests_or_until_cleared(
        self, control: aiohttp.ClientSession, client: TableClient
    ) -> None:
        answer = await called(control, "POST", "misbehave", {"kind": "server_error", "count": 2, "status": 502})
        assert answer["misbehaviours"][0]["count"] == 2
        for _ in range(2):
            with pytest.raises(RemoteUnavailable, match="502"):
                await client.find("incident", {})
        assert await client.find("incident", {}) == []
        await called(control, "POST", "misbehave", {"kind": "down"})
        for _ in range(3):
            with pytest.raises(RemoteUnavailable):
                await client.find("incident", {})
        await called(control, "DELETE", "misbehave")
        assert await client.find("incident", {}) == []

    async def test_hits_only_the_paths_and_methods_that_are_named(
        self, control: aiohttp.ClientSession, client: TableClient
    ) -> None:
        await called(control, "POST", "misbehave", {"kind": "down", "path_contains": "T13"})
        await called(control, "POST", "misbehave", {"kind": "server_error", "method": "POST"})
        assert await client.find("incident", {"correlation_id": "T12"}) == []
        with pytest.raises(RemoteUnavailable):
            await client.find("incident", {"correlation_id": "T13"})
        with pytest.raises(RemoteUnavailable, match="503"):
            await client.create("incident", {})

    @pytest.mark.parametrize(
        "body",
        [{"kind": "gremlins"}, {"kind": "down", "count": 0}, {"kind": "server_error", "status": 200}, {"knid": "down"}],
    )
    async def test_refuses_what_it_does_not_know(self, control: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        async with control.post("misbehave", json=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"]

    async def test_every_kind_can_be_switched_on_and_off(self, control: aiohttp.ClientSession) -> None:
        for kind in KINDS:
            await called(control, "POST", "misbehave", {"kind": kind})
        active = (await called(control, "DELETE", "misbehave?kind=slow"))["misbehaviours"]
        assert [one["kind"] for one in active] == [kind for kind in KINDS if kind != "slow"]

    async def test_a_reset_goes_back_to_the_start(
        self, control: aiohttp.ClientSession, client: TableClient, simulator: Simulator
    ) -> None:
        await client.create("incident", {})
        await called(control, "POST", "misbehave", {"kind": "down"})
        await called(control, "POST", "rate-limit", {"requests_max": 0})
        await called(control, "POST", "reset")
        status = await called(control, "GET", "status")
        assert status == {
            "status": "ok",
            "requests": 0,
            "effects": 0,
            "misbehaviours": [],
            "rate_limit": None,
            "webhook": None,
        }
        assert (await client.create("incident", {}))["number"] == "INC0010001"


class TestStateFile:
    async def test_restores_records_and_numbers_after_a_restart(
        self, tmp_path: Path, session: aiohttp.ClientSession, clock: MovableClock
    ) -> None:
        options = Options(tls_port=None, state_file=tmp_path / "state.jsonl")
        auth = BasicAuth(options.credentials.username, options.credentials.password)
        async with run_simulator(options, clock=clock) as simulator:
            client = TableClient(session, simulator.url, auth)
            kept = await client.create("incident", {"correlation_id": "T1", "impact": "1"})
            gone = await client.create("incident", {"correlation_id": "T2"})
            clock.move(60)
            await client.update("incident", kept["sys_id"], {"state": "2", "comments": "on it"})
            simulator.change(sys_id=kept["sys_id"], fields={"work_notes": "seen"})
            authorization = {"Authorization": await auth.header(client)}
            async with session.delete(
                f"{simulator.url}/api/now/table/incident/{gone['sys_id']}", headers=authorization
            ) as response:
                assert response.status == 204
            before = simulator.incidents()
        # A kill may cut off the line that was being written.
        with (tmp_path / "state.jsonl").open("ab") as file:
            file.write(b'{"n":6,"time":"2026-11')

        clock.move(3600)
        async with run_simulator(options, clock=clock) as simulator:
            assert simulator.incidents() == before
            assert [effect.method for effect in simulator.effects] == ["POST", "POST", "PATCH", "CHANGE", "DELETE"]
            client = TableClient(session, simulator.url, auth)
            assert (await client.create("incident", {}))["number"] == "INC0010003"
            assert simulator.effects[-1].n == 6
        lines = (tmp_path / "state.jsonl").read_text().splitlines()
        assert [json.loads(line)["n"] for line in lines] == [1, 2, 3, 4, 5, 6]


class TestWebhook:
    async def test_tells_a_users_change_with_a_signature_that_anyone_can_check(
        self, control: aiohttp.ClientSession, client: TableClient, simulator: Simulator, receiver: Receiver
    ) -> None:
        created = await client.create("incident", {"correlation_id": "T1"})
        await called(control, "POST", "webhook", {"url": receiver.url, "secret": SECRET})
        fields = {"state": "2", "comments": "Crew is on the way"}
        answer = await called(control, "POST", "change", {"sys_id": created["sys_id"], "fields": fields})
        assert answer["result"]["sys_updated_by"] == "service.desk"
        await simulator.webhooks.settle()

        [(headers, body)] = receiver.got
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET[len("whsec_") :])
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert headers["content-type"] == "application/json"
        message = json.loads(body)
        assert message["type"] == "incident.updated"
        data = message["data"]
        assert data | {"sys_id": created["sys_id"], "number": "INC0010001", "correlation_id": "T1"} == data
        assert (data["state"], data["comments"], data["sys_mod_count"]) == ("2", "Crew is on the way", "1")
        assert data["changed"] == ["incident_state", "state", "comments"]

    async def test_repeats_with_the_same_id_and_a_new_timestamp(
        self, client: TableClient, simulator: Simulator, receiver: Receiver, clock: MovableClock
    ) -> None:
        receiver.statuses = [500, 302]
        await client.create("incident", {"correlation_id": "T1"})
        simulator.set_webhook(receiver.url, SECRET)
        simulator.change(correlation_id="T1", fields={"state": "2"})
        await simulator.webhooks.settle()
        assert len(receiver.got) == 3
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert len({body for _, body in receiver.got}) == 1
        assert simulator.webhooks.deliveries[0].delivered

    async def test_gives_up_after_the_last_attempt_and_says_so(
        self, control: aiohttp.ClientSession, client: TableClient, simulator: Simulator, receiver: Receiver
    ) -> None:
        receiver.statuses = [500] * 3
        await client.create("incident", {"correlation_id": "T1"})
        simulator.set_webhook(receiver.url, SECRET)
        simulator.change(correlation_id="T1", fields={"state": "2"})
        await simulator.webhooks.settle()
        [told] = (await called(control, "GET", "webhook"))["deliveries"]
        assert (told["attempts"], told["status"], told["delivered"]) == (3, 500, False)

    async def test_a_receiver_that_is_gone_gets_no_more(
        self, client: TableClient, simulator: Simulator, receiver: Receiver
    ) -> None:
        receiver.statuses = [410]
        await client.create("incident", {"correlation_id": "T1"})
        simulator.set_webhook(receiver.url, SECRET)
        for state in ("2", "1"):
            simulator.change(correlation_id="T1", fields={"state": state})
            await simulator.webhooks.settle()
        assert len(receiver.got) == 1

    @pytest.mark.parametrize("api_writes", [False, True])
    async def test_tells_of_api_writes_only_if_asked_to(
        self, client: TableClient, simulator: Simulator, receiver: Receiver, api_writes: bool
    ) -> None:
        simulator.set_webhook(receiver.url, SECRET, api_writes=api_writes)
        await client.create("incident", {"correlation_id": "T1"})
        await simulator.webhooks.settle()
        assert len(receiver.got) == (1 if api_writes else 0)
        for _, body in receiver.got:
            assert json.loads(body)["type"] == "incident.created"
            assert json.loads(body)["data"]["sys_updated_by"] == simulator.credentials.username

    @pytest.mark.parametrize("secret", ["", "plain", "whsec_c2hvcnQ=", "whsec_?"])
    async def test_refuses_a_secret_that_is_none(self, control: aiohttp.ClientSession, secret: str) -> None:
        async with control.post("webhook", json={"url": "http://127.0.0.1:9/", "secret": secret}) as response:
            assert response.status == 400
            assert "whsec_" in (await response.json())["error"]["message"]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"sys_id": "0" * 32, "fields": {}}, 404),
            ({"correlation_id": "none", "fields": {}}, 404),
            ({"correlation_id": "T1", "fields": {"state": "6"}}, 403),
            ({"correlation_id": "T1", "fields": {}, "table": "u_nothing"}, 400),
            ({"correlation_id": "T1"}, 400),
        ],
    )
    async def test_a_user_is_bound_by_the_rules_too(
        self, control: aiohttp.ClientSession, client: TableClient, body: dict[str, Any], status: int
    ) -> None:
        await client.create("incident", {"correlation_id": "T1"})
        async with control.post("change", json=body) as response:
            assert response.status == status


class TestProcess:
    async def test_says_when_it_is_ready_serves_both_ports_and_ends_on_sigterm(
        self, tmp_path: Path, session: aiohttp.ClientSession
    ) -> None:
        state, ca_file = tmp_path / "state.jsonl", tmp_path / "ca.pem"
        arguments = ["--port", "0", "--tls-port", "0", "--state-file", str(state), "--ca-file", str(ca_file)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "busbar_itsm.simulator", *arguments, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
            auth = BasicAuth(ready["username"], ready["password"])
            created = await TableClient(session, ready["url"], auth).create("incident", {"correlation_id": "T1"})
            # The effect is in the file before the answer is sent.
            assert json.loads(state.read_text())["sys_id"] == created["sys_id"]
            trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ready["ca_file"]))
            async with aiohttp.ClientSession(connector=trusting) as tls_session:
                found = await TableClient(tls_session, ready["tls_url"], auth).find(
                    "incident", {"correlation_id": "T1"}
                )
            assert [record["sys_id"] for record in found] == [created["sys_id"]]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def test_can_be_started_and_stopped_by_hand(self, session: aiohttp.ClientSession) -> None:
        simulator = await start_simulator("127.0.0.1", 0)
        auth = BasicAuth(simulator.credentials.username, simulator.credentials.password)
        client = TableClient(session, simulator.url, auth)
        ca_file = simulator.ca_file
        assert ca_file is not None
        assert ca_file.exists()
        assert await client.find("incident", {}) == []
        await simulator.stop()
        assert not ca_file.exists()
        with pytest.raises(RemoteUnavailable):
            await client.find("incident", {})

    def test_two_simulators_never_share_a_password(self) -> None:
        assert Credentials().password != Credentials().password
        assert len(Credentials().password) >= 24
