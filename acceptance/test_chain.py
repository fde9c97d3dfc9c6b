"""From incident to cost without a gap: each automatic step happens, once, under one correlation id, whatever dies."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from acceptance.api import Api
from acceptance.consumer import Consumer, following
from acceptance.processes import Busbar, installation
from acceptance.utility import COST_CENTER, HOURS, LABOUR_COST, PRICE, RATE, RemoteSystem, Utility, add_case, utility

CASES = 12
APART_S = 1.5
"""A case begins so long after the one before, so that every step of some case meets every kind of kill."""
KILLS = 14
STEP_S_MAX = 60.0
TOLD = (
    "PM_TICKET_CREATED",  # incident
    "PM_TICKET_CREATED",  # order
    "MM_STOCK_CHANGED",
    "MM_TICKET_CREATED",
    "MM_REORDER_TRIGGERED",
    "MM_REQUISITION_CREATED",
    "FI_COMMITMENT_CHANGED",  # the fitter, as planned
    "FI_COMMITMENT_CHANGED",  # the requisition
    "FI_COMMITMENT_CHANGED",  # the fitter, as done
    "FI_TICKET_CREATED",
    "FI_APPROVAL_REQUESTED",
    "FI_APPROVAL_COMPLETED",
    "MM_REQUISITION_APPROVED",
    "PM_ORDER_COMPLETED",
    "FI_COST_POSTED",  # the fuse
    "FI_COST_POSTED",  # the fitter
)
"""What an independent consumer sees of a case at the least, as often as it stands here."""


class Team:
    """Who works on a case, each as themselves."""

    def __init__(self, engineer: Api, storekeeper: Api, officer: Api) -> None:
        self.engineer, self.storekeeper, self.officer = engineer, storekeeper, officer


@asynccontextmanager
async def team(url: str) -> AsyncIterator[Team]:
    """The three of them, signed in at this address."""
    async with (
        Api(url, username="maintenance.engineer") as engineer,
        Api(url, username="store.manager") as storekeeper,
        Api(url, username="finance.officer") as officer,
    ):
        yield Team(engineer, storekeeper, officer)


async def until(ask: Callable[[], Awaitable[Any]], *, what: str) -> Any:
    """Ask again until the answer is there; processes and remote systems may be dead at the moment."""
    try:
        async with asyncio.timeout(STEP_S_MAX):
            while True:
                try:
                    if found := await ask():
                        return found
                except (aiohttp.ClientError, Unanswered):
                    await asyncio.sleep(0.2)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {STEP_S_MAX:g} s") from None


class Unanswered(Exception):
    """The process cannot answer now; the same request is sent again."""


async def do(api: Api, path: str, body: Any, *, case: str, step: str) -> Any:
    """POST until it is answered, under the correlation id of the case and a key that makes it one request."""

    async def ask() -> Any:
        headers = {"X-Correlation-ID": case, "Idempotency-Key": f"{case}-{step}"}
        status, answer = await api.send("POST", path, body, **headers)
        if status in (401, 409, 503):
            # 409: the first try of the same request is still being worked on.
            raise Unanswered
        assert status < 300, f"{path}: {status} {answer}"
        return answer

    return await until(ask, what=f"{case}: {step}")


async def first(api: Api, path: str) -> Any:
    """The only item of a list, or None while it is empty."""
    status, page = await api.send("GET", path)
    if status != 200:
        raise Unanswered
    assert len(page["items"]) <= 1, f"{path}: {len(page['items'])} where one was to be"
    return page["items"][0] if page["items"] else None


async def run_case(people: Team, name: str, *, after_s: float = 0) -> None:
    """One case as people see it: they do four things, and all the rest comes by itself."""
    await asyncio.sleep(after_s)
    case = f"case-{name}"
    body = {"asset_id": f"TRF-{name}", "fault_type": "fault", "severity": "P3", "description": "Blown fuse"}
    await do(people.engineer, "/api/v1/pm/incidents", body, case=case, step="report")
    order = await until(
        lambda: first(people.engineer, f"/api/v1/pm/maintenance-orders?asset_id=TRF-{name}"), what=f"{case}: order"
    )
    body = {"material_id": f"FUSE-{name}", "quantity_change": "-1", "transaction_type": "issue"}
    await do(
        people.storekeeper,
        "/api/v1/mm/stock-transactions",
        body | {"ticket_id": order["ticket_id"]},
        case=case,
        step="issue",
    )
    # No further call until there is something to decide.
    requisition = await until(
        lambda: first(people.storekeeper, f"/api/v1/mm/purchase-requisitions?material_id=FUSE-{name}"),
        what=f"{case}: requisition",
    )

    async def waiting() -> Any:
        status, page = await people.officer.send("GET", "/api/v1/fi/approval-requests?mine=true&limit=200")
        if status != 200:
            raise Unanswered
        found = [one for one in page["items"] if one["subject_ticket_id"] == requisition["ticket_id"]]
        return found[0] if found else None

    approval = await until(waiting, what=f"{case}: approval request")
    await do(
        people.officer,
        f"/api/v1/fi/approval-requests/{approval['approval_id']}/approve",
        {"comment": "Needed"},
        case=case,
        step="approve",
    )
    done = {"labour": [{"description": "Fitter", "hours": HOURS, "hourly_rate": RATE}]}
    await do(
        people.engineer,
        f"/api/v1/pm/maintenance-orders/{order['order_id']}/complete",
        {"notes": "Fuse replaced", "actuals": done},
        case=case,
        step="complete",
    )


async def check_case(around: Utility, api: Api, consumer: Consumer, name: str) -> None:
    """Everything of the case is there once: tickets, requisition, money, remote documents, and what was told."""
    case = f"case-{name}"
    requisition = await first(api, f"/api/v1/mm/purchase-requisitions?material_id=FUSE-{name}")
    assert (requisition["status"], requisition["origin"], requisition["quantity"]) == ("approved", "reorder", "1.000")
    tickets = (await api.get(f"/api/v1/tickets?correlation_id={case}&limit=200"))["items"]
    kinds = Counter(ticket["ticket_type"] for ticket in tickets)
    assert kinds == {"Incident": 1, "Maintenance": 1, "Procurement": 1, "Finance_Approval": 1}
    order = await first(api, f"/api/v1/pm/maintenance-orders?asset_id=TRF-{name}")
    entries = (await api.get(f"/api/v1/fi/cost-entries?ticket_id={order['ticket_id']}"))["items"]
    assert sorted((entry["amount"], entry["cost_center_id"]) for entry in entries) == [
        (LABOUR_COST, COST_CENTER),
        (PRICE, COST_CENTER),
    ]
    commitments = (await api.get("/api/v1/fi/commitments?limit=200"))["items"]
    own = [one for one in commitments if one["source_id"] == requisition["requisition_id"]]
    assert [(one["status"], one["amount"]) for one in own] == [("open", PRICE)]

    seen = Counter(event["type"] for event in consumer.of(case))
    missing = {kind: count for kind, count in Counter(TOLD).items() if seen[kind] != count}
    assert not missing, f"{case}: expected {missing}, seen {dict(seen)}"
    about_it = {ticket["ticket_id"] for ticket in tickets}
    strays = [one for one in consumer.events if one["subject"] in about_it and one["correlationid"] != case]
    assert not strays, f"{case}: told under another correlation id: {strays[0]}"

    approvals = [ticket["ticket_id"] for ticket in tickets if ticket["ticket_type"] == "Finance_Approval"]
    answer = await around.crm.control.ask("GET", f"records?external_id={approvals[0]}")
    assert answer["count"] == 1, f"{case}: {answer['count']} Cases"
    assert answer["records"][0]["Status"] == "Closed"


async def check_documents(around: Utility, cases: int) -> None:
    """The ERP system has one purchase requisition and one goods issue for each case, and no more."""
    requisitions = await around.erp.control.ask("GET", "records?entity_set=A_PurchaseRequisitionItem")
    per_material = Counter(item["Material"] for item in requisitions["records"])
    assert (len(per_material), set(per_material.values())) == (cases, {1}), per_material
    documents = await around.erp.control.ask("GET", "records?entity_set=A_MaterialDocumentItem")
    issues = Counter(item["Material"] for item in documents["records"] if item["GoodsMovementType"] in ("201", "261"))
    assert (len(issues), set(issues.values())) == (cases, {1}), issues
    shared = await around.crm.control.ask("GET", "records")
    assert not shared["shared_external_ids"]


class TestTheChain:
    async def test_one_issued_part_leads_by_itself_to_requisition_budget_approval_and_then_to_erp_and_crm(self) -> None:
        async with installation() as installed, utility(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api, following(busbar.url) as consumer:
                await around.furnish(api)
                await add_case(api, "1")
                async with team(busbar.url) as people:
                    await run_case(people, "1")
                await api.drained(within_s=30)
                await asyncio.sleep(0.5)
                await check_case(around, api, consumer, "1")
                await check_documents(around, 1)
                assert (await api.get("/api/v1/deliveries/summary"))["parked"] == 0
                trace = await api.get("/api/v1/events/trace/case-1")
                told = {step["kind"] for step in trace["steps"]}
                assert {"event", "attempt"} <= told, told

    async def test_changes_at_the_erp_and_crm_systems_come_back_once(self) -> None:
        async with installation() as installed, utility(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api, following(busbar.url):
                await around.furnish(api)
                await around.listen_to(busbar)
                await add_case(api, "1")
                async with team(busbar.url) as people:
                    await run_case(people, "1")
                await api.drained(within_s=30)
                requisition = await first(api, "/api/v1/mm/purchase-requisitions?material_id=FUSE-1")
                items = await around.erp.control.ask("GET", "records?entity_set=A_PurchaseRequisitionItem")
                ordered = {
                    "reference": items["records"][0]["PurReqnExternalReference"],
                    "fields": {"PurchasingDocument": "4500000017"},
                }
                await comes_back_once(api, around.erp, requisition["ticket_id"], ordered, "4500000017")
                tickets = (await api.get("/api/v1/tickets?module=fi"))["items"]
                said = {"external_id": tickets[0]["ticket_id"], "comment": "The customer was told"}
                await comes_back_once(api, around.crm, tickets[0]["ticket_id"], said, "The customer was told")


async def comes_back_once(api: Api, remote: RemoteSystem, ticket_id: str, change: Any, words: str) -> None:
    """Somebody changes a record there: the ticket's trail has it, in one entry, and the remote is not told of it."""
    before = len(await api.get(f"/api/v1/tickets/{ticket_id}/audit"))
    await remote.control.ask("POST", "change", change)
    writes = len(await remote.effects())

    async def noted() -> Any:
        trail = await api.get(f"/api/v1/tickets/{ticket_id}/audit")
        return [entry for entry in trail if words in (entry["comment"] or "")]

    assert len(await until(noted, what=f"{words} from {remote.kind}")) == 1
    await api.drained(within_s=10)
    assert len(await api.get(f"/api/v1/tickets/{ticket_id}/audit")) == before + 1
    assert len(await remote.effects()) == writes, f"{remote.kind} was told its own change"


class Killer:
    """Kills processes at random, and starts them again, until it has done so `KILLS` times."""

    def __init__(self, around: Utility, busbars: list[Busbar]) -> None:
        self.around, self.busbars = around, busbars
        self.killed: Counter[str] = Counter()

    async def run(self) -> None:
        chance = random.Random(20261128)
        kinds = ("serve", "worker", "erp", "crm")
        for n in range(KILLS):
            await asyncio.sleep(chance.uniform(0.3, 1.2))
            await getattr(self, kinds[n % len(kinds)])()
            self.killed[kinds[n % len(kinds)]] += 1

    async def serve(self) -> None:
        busbar = self.busbars[0]
        await busbar.kill()
        self.busbars[0] = await self.around.installed.start(port=busbar.port)

    async def worker(self) -> None:
        await self.busbars[1].kill()
        self.busbars[1] = await self.around.installed.start()

    async def erp(self) -> None:
        self.around.erp.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(self.around.erp.start)

    async def crm(self) -> None:
        self.around.crm.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(self.around.crm.start)


@pytest.mark.slow
class TestTheChainUnderKills:
    @pytest.mark.timeout(600)
    async def test_killing_any_process_loses_no_step_and_doubles_none(self) -> None:
        async with installation() as installed, utility(installed) as around:
            busbars = [await installed.start(), await installed.start()]
            async with Api(busbars[0].url) as api:
                await around.furnish(api)
                for n in range(CASES):
                    await add_case(api, str(n))
            async with following(busbars[0].url) as consumer:
                killer = Killer(around, busbars)
                async with team(busbars[0].url) as people:
                    killing = asyncio.create_task(killer.run())
                    await asyncio.gather(*(run_case(people, str(n), after_s=n * APART_S) for n in range(CASES)))
                await killing
                assert sum(killer.killed.values()) == KILLS
                await asyncio.gather(*(busbar.ready() for busbar in busbars))
                async with Api(busbars[0].url) as api:
                    await self._nothing_waits(api)
                    await until(lambda: self._seen(consumer, api), what="the last event at the consumer")
                    for n in range(CASES):
                        await check_case(around, api, consumer, str(n))
                    await check_documents(around, CASES)
                    summary = await api.get("/api/v1/deliveries/summary")
                    assert (summary["parked"], summary["balanced"]) == (0, True)

    async def _nothing_waits(self, api: Api) -> None:
        for endpoint in ("erp", "crm"):
            # Its pause after the kills need not be waited for.
            await api.post(f"/api/v1/endpoints/{endpoint}/resume")
        await api.drained(within_s=120)

    async def _seen(self, consumer: Consumer, api: Api) -> bool:
        latest = (await api.get("/api/v1/events?limit=1"))["items"]
        return any(event["id"] == latest[0]["id"] for event in consumer.events)
