"""The services of compose.yml together: work goes through all of them, and goes on while any of them dies."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from acceptance.api import Api, RemoteControl
from acceptance.consumer import following
from acceptance.test_chain import check_case, check_documents, run_case, team
from acceptance.utility import MODULES, Utility, add_case
from acceptance.world import World, incident

from ops.e2e.native import Native, running

REPORTS = 400
CLIENTS = 8
CASE = "composed"
USERS = {"itsm": "busbar.integration", "erp": "BUSBAR", "crm": "busbar"}


class Ledger:
    """The database of the services, past Busbar."""

    def __init__(self, native: Native) -> None:
        self._dsn = native.places.secret("database_url")

    async def query(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
            return rows
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="session")
async def native() -> AsyncIterator[Native]:
    async with running() as services:
        yield services


def remote(native: Native, kind: str) -> SimpleNamespace:
    """A simulator, as the acceptance tests know them."""
    password, url = native.places.secret("simulator_password"), native.places.url(f"{kind}-simulator")
    ready = {"url": url, "username": USERS[kind], "password": password, "client_id": USERS[kind]}
    return SimpleNamespace(kind=kind, control=RemoteControl(url), ready=ready | {"client_secret": password})


def signed_in(native: Native) -> Api:
    return Api(native.places.url("kong"), password=native.places.secret("busbar_admin_password"))


@pytest.mark.timeout(900)
class TestComposed:
    async def test_busbars_role_owns_its_database_and_may_do_nothing_else(self, native: Native) -> None:
        (role,) = await Ledger(native).query("select * from pg_roles where rolname = current_user")
        rights = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
        assert [name for name in rights if role[name]] == []
        owned = await Ledger(native).query(
            "select datname from pg_database d join pg_roles r on r.oid = d.datdba where r.rolname = current_user"
        )
        assert [row["datname"] for row in owned] == ["busbar"]

    async def test_every_target_is_scraped_and_every_rule_can_be_evaluated(self, native: Native) -> None:
        async def ask(path: str) -> Any:
            async with aiohttp.ClientSession(native.places.url("prometheus")) as session, session.get(path) as answer:
                return (await answer.json())["data"]

        async with asyncio.timeout(60):
            while True:
                targets = (await ask("/api/v1/targets"))["activeTargets"]
                if len(targets) >= 6 and {target["health"] for target in targets} == {"up"}:
                    break
                await asyncio.sleep(0.5)
        jobs = [target["labels"]["job"] for target in targets]
        assert (jobs.count("busbar-platform"), jobs.count("busbar-worker")) == (2, 2)
        assert {"rabbitmq", "camel"} <= set(jobs)
        rules = [rule for group in (await ask("/api/v1/rules"))["groups"] for rule in group["rules"]]
        assert rules
        assert [(rule["name"], rule["lastError"]) for rule in rules if rule.get("lastError")] == []

    async def test_work_goes_on_while_one_replica_of_each_and_camel_are_killed(self, native: Native) -> None:
        desk = remote(native, "itsm")
        around = World(Ledger(native), desk.ready)
        acknowledged: list[str] = []
        numbers = itertools.count()
        async with signed_in(native) as api:
            await around.furnish(api, modules=MODULES)

            async def report() -> None:
                while (n := next(numbers)) < REPORTS:
                    # The same key again after a broken connection: one incident, however often it is sent.
                    status, answer = await again(api, incident(n), key=f"composed-{n}")
                    assert status == 201, answer
                    acknowledged.append(answer["ticket_id"])

            working = asyncio.gather(*(report() for _ in range(CLIENTS)))
            for name in ("worker", "platform", "camel"):
                process = native.processes[name][0]
                process.kill()
                await asyncio.sleep(0.5)
                process.start()
                await native.healthy(process)
            await working
            await api.drained(within_s=120)
            summary = await api.get("/api/v1/deliveries/summary")
            assert (summary["parked"], summary["balanced"]) == (0, True)
        assert len(set(acknowledged)) == REPORTS
        assert await around.check_each_once(acknowledged) == REPORTS

    async def test_one_case_goes_from_an_incident_to_its_cost_by_way_of_camel(self, native: Native) -> None:
        around = Utility(Ledger(native), remote(native, "erp"), remote(native, "crm"))
        url, password = native.places.url("kong"), native.places.secret("busbar_admin_password")
        async with signed_in(native) as api, following(url, password=password) as consumer:
            await around.furnish(api, has_site=True)
            await add_case(api, CASE)
            async with team(url) as people:
                await run_case(people, CASE)
            await api.drained(within_s=60)
            await asyncio.sleep(1)
            await check_case(around, api, consumer, CASE)
            await check_documents(around, 1)
            trace = await api.get(f"/api/v1/events/trace/case-{CASE}")
            assert "camel" in str(trace).lower()


async def again(api: Api, body: Any, *, key: str) -> tuple[int, Any]:
    """POST an incident until it is answered."""
    async with asyncio.timeout(60):
        while True:
            try:
                status, answer = await api.send("POST", "/api/v1/pm/incidents", body, **{"Idempotency-Key": key})
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
                continue
            if status not in (409, 502, 503, 504):
                return status, answer
            await asyncio.sleep(0.1)
