"""Real Camel beside a real Busbar over a real RabbitMQ: what it writes, what it survives, and what it brings in."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
import pytest_asyncio

from acceptance.api import Api
from acceptance.both_ways import KINDS, RUNNERS, BothWays, both_ways
from acceptance.test_chain import do, first, run_case, team, until
from acceptance.utility import SITE, add_case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Around = tuple[BothWays, Api]


@pytest_asyncio.fixture(scope="module")
async def around() -> AsyncIterator[Around]:
    async with both_ways() as started:
        yield started


async def report(api: Api, n: int, **fields: Any) -> str:
    """Report an incident at the n-th substation; its ticket."""
    alarm = {
        "asset_id": f"SUB-{n}",
        "fault_type": "outage",
        "severity": "P2",
        "description": "Busbar fault: Kurzschluß",
    }
    answer = await api.post("/api/v1/pm/incidents", alarm | fields)
    return str(answer["ticket_id"])


async def deliveries(api: Api, ticket_id: str, endpoint: str = "itsm-camel") -> list[dict[str, Any]]:
    """The deliveries of a ticket to one endpoint, with their attempts, oldest first."""
    page = await api.get(f"/api/v1/deliveries?endpoint={endpoint}&subject={ticket_id}")
    found = [await api.get(f"/api/v1/deliveries/{one['delivery_id']}") for one in page["items"]]
    return sorted(found, key=lambda one: int(one["delivery_id"]))


async def settled(api: Api, ticket_id: str, *states: str) -> list[dict[str, Any]]:
    """The deliveries of a ticket by Camel as soon as all are in one of these states."""

    async def ask() -> Any:
        found = await deliveries(api, ticket_id)
        return found if found and all(one["state"] in states for one in found) else None

    found: list[dict[str, Any]] = await until(ask, what=f"{ticket_id}: {', '.join(states)}")
    return found


async def created(around: BothWays, ticket_id: str) -> int:
    """How many records Camel has opened for a ticket at the service desk."""
    return len(await around.remote("itsm").effects(method="POST", correlation_id=ticket_id))


class TestWhatCamelWrites:
    async def test_is_field_by_field_what_the_embedded_router_writes(self, around: Around) -> None:
        both, api = around
        await tell_a_story(both, api)
        await api.drained(within_s=60)
        for kind in KINDS:
            ours, camels = [await both.effects(kind, runner) for runner in RUNNERS]
            assert ours, f"nothing was written at {kind}"
            assert camels == ours
        summary = await api.get("/api/v1/deliveries/summary")
        assert (summary["parked"], summary["balanced"]) == (0, True)

    async def test_carries_the_correlation_id_and_shows_in_the_trace_and_in_camels_log(self, around: Around) -> None:
        both, api = around
        ticket_id = await report(api, 1)
        [delivery] = await settled(api, ticket_id, "delivered")
        trace = await api.get(f"/api/v1/events/trace/{ticket_id}")
        legs = [step["text"] for step in trace["steps"] if step["kind"] == "attempt" and "itsm-camel" in step["text"]]
        assert len(legs) == 1
        assert "by Camel: delivered" in legs[0]
        [effect] = await both.remote("itsm").effects(correlation_id=ticket_id)
        assert effect["request_correlation_id"] == delivery["correlation_id"]
        lines = [json.loads(line) for line in both.camel.log.read_text().splitlines() if line.startswith("{")]
        about = [line for line in lines if line["correlation_id"] == delivery["correlation_id"]]
        assert any("was opened." in line["message"] and line["log_level"] == "INFO" for line in about)


async def tell_a_story(both: BothWays, api: Api) -> None:
    """Incidents that change and end in every way, and one case from an issued part to its cost."""
    tickets = [await report(api, n, description=f"Outage {n}") for n in range(4)]
    for ticket_id in tickets[:2]:
        for status in ("Assigned", "In_Progress", "Closed"):
            await api.patch(f"/api/v1/tickets/{ticket_id}/status", {"new_status": status, "comment": f"Now {status}"})
    await api.post(f"/api/v1/tickets/{tickets[1]}/reopen", {"reason": "Tripped again"})
    await api.post(f"/api/v1/tickets/{tickets[2]}/cancel", {"reason": "A false alarm"})
    await api.post(f"/api/v1/tickets/{tickets[3]}/hold", {"reason": "Waits for the crane"})
    page = await api.get("/api/v1/pm/incidents?asset_id=SUB-3")
    change = {"severity": "P1", "description": "Worse than it looked: Δ-Wicklung"}
    await api.patch(f"/api/v1/pm/incidents/{page['items'][0]['incident_id']}", change)
    await add_case(api, "7")
    async with team(both.url) as people:
        await run_case(people, "7")
    receipt = {"material_id": "FUSE-7", "quantity_change": "5", "transaction_type": "receipt"}
    await do(api, "/api/v1/mm/stock-transactions", receipt, case="case-7", step="receive")
    requisition = await first(api, "/api/v1/mm/purchase-requisitions?material_id=FUSE-7")
    await api.drained(within_s=60)
    await api.post(f"/api/v1/tickets/{requisition['ticket_id']}/cancel", {"reason": "The budget was cut"})


class TestTrouble:
    async def test_a_remote_that_answers_503_first_is_asked_again_within_the_attempt(self, around: Around) -> None:
        both, api = around
        await both.remote("itsm").control.ask(
            "POST", "misbehave", {"kind": "server_error", "count": 1, "method": "POST"}
        )
        ticket_id = await report(api, 2)
        [delivery] = await settled(api, ticket_id, "delivered")
        assert await created(both, ticket_id) == 1
        assert len(delivery["history"]) == 1
        assert "Camel asked 2 times." in delivery["history"][0]["detail"]

    async def test_a_quota_that_is_used_up_costs_no_attempt(self, around: Around) -> None:
        both, api = around
        limit = {"kind": "rate_limit", "count": 1, "delay_s": 1}
        await both.remote("itsm").control.ask("POST", "misbehave", limit)
        ticket_id = await report(api, 3)
        [delivery] = await settled(api, ticket_id, "delivered")
        assert (delivery["attempts"], delivery["charged"]) == (2, 1)
        assert "quota" in delivery["history"][0]["detail"]
        assert await created(both, ticket_id) == 1

    async def test_an_answer_that_never_comes_does_not_double_the_record(self, around: Around) -> None:
        both, api = around
        lost = {"kind": "timeout_after_effect", "count": 1, "delay_s": 0.2, "method": "POST"}
        await both.remote("itsm").control.ask("POST", "misbehave", lost)
        ticket_id = await report(api, 4)
        await settled(api, ticket_id, "delivered")
        assert await created(both, ticket_id) == 1

    async def test_what_a_remote_refuses_is_dead_until_it_is_mended_and_replayed(self, around: Around) -> None:
        both, api = around
        endpoint = await api.get("/api/v1/endpoints/itsm-camel")
        settings = endpoint["settings"]
        await api.patch("/api/v1/endpoints/itsm-camel", {"settings": settings | {"table": "no_such_table"}})
        ticket_id = await report(api, 5)
        [delivery] = await settled(api, ticket_id, "dead")
        assert "Invalid table no_such_table" in delivery["last_error"]
        await api.patch("/api/v1/endpoints/itsm-camel", {"settings": settings})
        await api.post(f"/api/v1/deliveries/{delivery['delivery_id']}/replay", {"reason": "The table is right now"})
        [delivery] = await settled(api, ticket_id, "delivered")
        assert await created(both, ticket_id) == 1

    async def test_killing_camel_in_between_loses_nothing_and_doubles_nothing(self, around: Around) -> None:
        both, api = around
        slow = {"kind": "slow", "delay_s": 0.3, "method": "POST"}
        await both.remote("itsm").control.ask("POST", "misbehave", slow)
        tickets = [await report(api, n % 10, description=f"Storm {n}") for n in range(30)]
        for ticket_id in tickets[:10]:
            await api.patch(f"/api/v1/tickets/{ticket_id}/status", {"new_status": "Assigned"})

        async def has_begun() -> bool:
            return 2 <= sum([await created(both, ticket_id) for ticket_id in tickets]) < len(tickets)

        await until(has_begun, what="the first records")
        await both.camel.kill()
        await both.remote("itsm").control.ask("DELETE", "misbehave")
        await both.camel.start()
        for ticket_id in tickets:
            await settled(api, ticket_id, "delivered")
        assert [await created(both, ticket_id) for ticket_id in tickets] == [1] * len(tickets)
        summary = await api.get("/api/v1/deliveries/summary")
        assert (summary["parked"], summary["balanced"]) == (0, True)

    async def test_a_message_that_cannot_be_read_goes_to_the_dead_letters_of_the_broker(self, around: Around) -> None:
        both, api = around
        async with await aio_pika.connect(both.amqp_url) as connection:
            channel = await connection.channel()
            handover = await channel.get_exchange("busbar.handover")
            dead = await channel.get_queue("busbar.dead")
            for body in (b"not JSON", b'{"delivery_id": "1"}', b"[]"):
                await handover.publish(aio_pika.Message(body), routing_key="camel.itsm.itsm-camel")
            parked = [await dead_letter(dead) for _ in range(3)]
        assert {message.body for message in parked} == {b"not JSON", b'{"delivery_id": "1"}', b"[]"}
        await settled(api, await report(api, 6), "delivered")


async def dead_letter(queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
    async def ask() -> Any:
        return await queue.get(no_ack=True, fail=False)

    found: aio_pika.abc.AbstractIncomingMessage = await until(ask, what="a dead letter")
    return found


class TestAlarms:
    async def test_a_file_of_alarms_becomes_incidents_once_even_when_it_is_dropped_twice(self, around: Around) -> None:
        both, api = around
        lines = (
            "source_ref,asset_id,fault_type,severity,description,customers_affected",
            'SCADA-1,SUB-7,outage,P1,"Feeder 12, breaker open",80',
            "SCADA-2,SUB-8,fault,P3,Ölstand niedrig,",
        )
        for _ in range(2):
            await dropped(both, "alarms.csv", "\n".join(lines))
        for ref, description in (("SUB-7", "Feeder 12, breaker open"), ("SUB-8", "Ölstand niedrig")):
            page = await api.get(f"/api/v1/pm/incidents?asset_id={ref}&sort=-created_at&limit=200")
            found = [one for one in page["items"] if one["description"] == description]
            assert len(found) == 1
        assert len(list((both.alarms / ".done").iterdir())) == 2

    async def test_a_file_that_is_refused_is_put_aside_with_the_problem_beside_it(self, around: Around) -> None:
        both, api = around
        good = {"asset_id": "SUB-9", "fault_type": "fault", "severity": "P3", "description": "Before the bad one"}
        bad = good | {"asset_id": "NO-SUCH", "description": "The bad one"}
        await dropped(both, "mixed.json", json.dumps([good, bad]))
        await dropped(both, "broken.json", "{")
        failed = {path.name.split("-", 1)[1]: path for path in (both.alarms / ".failed").iterdir()}
        assert set(failed) == {"mixed.json", "mixed.json.problem.json", "broken.json", "broken.json.problem.json"}
        problem = json.loads(failed["mixed.json.problem.json"].read_text())
        assert "NO-SUCH" in problem["detail"]
        assert json.loads(failed["broken.json.problem.json"].read_text())["title"] == "Not an alarm"
        # Corrected and dropped again, the alarm that was taken is not taken twice.
        await dropped(both, "mixed.json", json.dumps([good, bad | {"asset_id": "SUB-9"}]))
        page = await api.get("/api/v1/pm/incidents?asset_id=SUB-9&limit=200")
        told = [one["description"] for one in page["items"]]
        assert (told.count("Before the bad one"), told.count("The bad one")) == (1, 1)


async def dropped(both: BothWays, name: str, content: str) -> None:
    """Drop a file and wait until Camel has moved it."""
    path = both.alarms / name
    path.write_text(content, "utf-8")

    async def is_gone() -> bool:
        return not path.exists()

    await until(is_gone, what=f"the end of {name}")


class TestObserving:
    async def test_health_and_metrics_answer(self, around: Around) -> None:
        both, _ = around
        health = await both.camel.health()
        assert {"name": "broker", "status": "UP"} in health["checks"]
        metrics = await both.camel.metrics()
        for kind in KINDS:
            assert f'routeId="{kind}"' in metrics
        assert SITE not in metrics
