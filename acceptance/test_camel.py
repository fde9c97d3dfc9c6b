"""Real Camel beside a real Busbar over a real RabbitMQ: what it writes, what it survives, and what it brings in."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika import DeliveryMode

from acceptance.api import Api
from acceptance.both_ways import ALARM_USER, HTTP_TIMEOUT_S, KINDS, REDELIVERIES, RUNNERS, BothWays, both_ways
from acceptance.camel_peer import cancellation, case_of, handed_over, peer, record_of
from acceptance.processes import PASSWORD
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
            written = {effect["method"] for effects in ours.values() for effect in effects}
            assert written == {"POST", "PATCH"}, f"the story does not tell all that {kind} can be told"
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
        assert len(delivery["tries"]) == 1
        assert "Camel asked 2 times." in delivery["tries"][0]["detail"]

    async def test_a_remote_that_stays_away_is_left_to_busbars_own_schedule(self, around: Around) -> None:
        both, api = around
        await both.remote("itsm").control.ask("POST", "misbehave", {"kind": "server_error", "count": 1 + REDELIVERIES})
        ticket_id = await report(api, 9, description="The desk is down")
        [delivery] = await settled(api, ticket_id, "delivered")
        first_try, second_try = delivery["tries"]
        assert (first_try["outcome"], second_try["outcome"]) == ("retrying", "delivered")
        assert f"Camel asked {1 + REDELIVERIES} times." in first_try["detail"]
        assert await created(both, ticket_id) == 1

    async def test_a_quota_that_is_used_up_costs_no_attempt(self, around: Around) -> None:
        both, api = around
        limit = {"kind": "rate_limit", "count": 1, "delay_s": 1}
        await both.remote("itsm").control.ask("POST", "misbehave", limit)
        ticket_id = await report(api, 3)
        [delivery] = await settled(api, ticket_id, "delivered")
        assert (delivery["attempts"], delivery["charged"]) == (2, 1)
        assert "quota" in delivery["tries"][0]["detail"]
        assert await created(both, ticket_id) == 1

    async def test_an_answer_that_never_comes_does_not_double_the_record(self, around: Around) -> None:
        both, api = around
        lost = {"kind": "timeout_after_effect", "count": 1, "delay_s": 0.2, "method": "POST"}
        await both.remote("itsm").control.ask("POST", "misbehave", lost)
        ticket_id = await report(api, 4)
        await settled(api, ticket_id, "delivered")
        assert await created(both, ticket_id) == 1

    async def test_an_answer_that_takes_too_long_is_awaited_before_the_next_look(self, around: Around) -> None:
        both, api = around
        late = {"kind": "timeout_after_effect", "count": 1, "delay_s": HTTP_TIMEOUT_S + 1, "method": "POST"}
        await both.remote("itsm").control.ask("POST", "misbehave", late)
        ticket_id = await report(api, 4, description="A slow desk")
        [delivery] = await settled(api, ticket_id, "delivered")
        assert (delivery["attempts"], await created(both, ticket_id)) == (2, 1)
        assert "SocketTimeoutException" in delivery["tries"][0]["detail"]

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

    async def test_goes_on_when_the_broker_has_closed_every_connection(self, around: Around) -> None:
        both, api = around
        await both.broker.close_connections()
        ticket_id = await report(api, 6)
        await settled(api, ticket_id, "delivered")
        assert await created(both, ticket_id) == 1


class TestMessages:
    """What Camel makes of messages, without a Busbar that has sent them."""

    async def test_one_that_cannot_be_read_goes_to_the_dead_letters_of_the_broker(self, around: Around) -> None:
        unreadable = {b"not JSON", b'{"delivery_id": "1"}', b"[]"}
        async with peer(around[0].broker.url) as bus:
            for body in unreadable:
                await bus.hand_over("itsm", body)
            assert {await bus.dead_letter() for _ in unreadable} == unreadable

    async def test_one_that_comes_twice_is_carried_out_and_told_once(self, around: Around) -> None:
        both, _ = around
        async with peer(both.broker.url) as bus:
            body = handed_over(1, "itsm", record_of("TKT-TWICE"))
            await bus.hand_over("itsm", body)
            told = await bus.outcome()
            await bus.hand_over("itsm", body)
            # Told after the second one would have been: each consumer takes one message at a time.
            other = handed_over(2, "itsm", record_of("TKT-TWICE"))
            await bus.hand_over("itsm", other)
            again = await bus.outcome()
        assert (told["state"], told["attempt"], told["tries"], told["marker"]) == ("delivered", 1, 1, "0")
        assert again["delivery_id"] != told["delivery_id"]
        assert again["remote_id"] == told["remote_id"]
        assert await created(both, "TKT-TWICE") == 1

    async def test_one_for_an_endpoint_that_it_does_not_serve_is_not_sent_to_another(self, around: Around) -> None:
        async with peer(around[0].broker.url) as bus:
            body = handed_over(3, "erp", {"operation": "create"}, endpoint="erp-elsewhere")
            await bus.hand_over("erp", body)
            told = await bus.outcome()
        assert told["state"] == "dead"
        assert told["detail"] == "This Camel serves the endpoint erp-camel, and not erp-elsewhere."

    async def test_a_comment_that_comes_late_is_added_once_and_sets_nothing_back(self, around: Around) -> None:
        both, _ = around
        async with peer(both.broker.url) as bus:
            told = []
            for number, minute in enumerate((30, 10, 10), start=10):
                await bus.hand_over("crm", handed_over(number, "crm", case_of("LATE-1", minute, f"At {minute}")))
                told.append(await bus.outcome())
        assert [one["state"] for one in told] == ["delivered"] * 3
        assert len({one["remote_id"] for one in told}) == 1
        assert "has been told of this already" in told[2]["detail"]
        effects = await both.remote("crm").effects(external_id="LATE-1")
        comments = [effect["fields"]["CommentBody"] for effect in effects if effect["object"] == "CaseComment"]
        assert [comment.partition(" [")[0] for comment in comments] == ["At 30", "At 10"]
        [case] = [effect for effect in effects if effect["object"] == "Case"]
        assert "T123000" in case["fields"]["Busbar_Marker__c"]

    async def test_a_token_that_is_not_accepted_any_more_is_fetched_anew(self, around: Around) -> None:
        both, _ = around
        async with peer(both.broker.url) as bus:
            for number, (kind, composed) in enumerate(
                (("crm", case_of("TOKEN-1", 1, "Hello")), ("itsm", record_of("TKT-TOKEN"))), start=20
            ):
                expired = {"kind": "unauthorized", "count": 1, "path_contains": "/api/" if kind == "itsm" else "/data/"}
                await both.remote(kind).control.ask("POST", "misbehave", expired)
                await bus.hand_over(kind, handed_over(number, kind, composed))
                told = await bus.outcome()
                assert (told["state"], told["tries"]) == ("delivered", 2), told["detail"]

    async def test_a_material_document_is_cancelled_once(self, around: Around) -> None:
        both, api = around
        issue = {"material_id": "FUSE-C", "quantity_change": "-1", "transaction_type": "issue"}
        await add_case(api, "C", quantity="100", level="0")
        await do(api, "/api/v1/mm/stock-transactions", issue, case="cancel", step="issue")
        await api.drained(within_s=30)
        [posted] = [
            effect
            for effect in await both.remote("erp").effects(method="POST", entity_set="A_MaterialDocumentHeader")
            if effect["request_correlation_id"] == "cancel"
        ]
        # Its session has ended: the token that Camel keeps is worth nothing any more.
        await both.remote("erp").control.ask(
            "POST", "misbehave", {"kind": "csrf_expired", "count": 1, "method": "POST"}
        )
        async with peer(both.broker.url) as bus:
            outcomes = []
            for number in (4, 5):
                await bus.hand_over("erp", handed_over(number, "erp", cancellation(posted["reference"])))
                outcomes.append(await bus.outcome())
            await bus.hand_over("erp", handed_over(6, "erp", cancellation("BB-UNKNOWN")))
            unknown = await bus.outcome()
        first_one, second = outcomes
        assert (first_one["state"], second["state"]) == ("delivered", "delivered"), [one["detail"] for one in outcomes]
        assert first_one["remote_id"] == second["remote_id"]
        assert "cancels it" in first_one["detail"]
        assert first_one["tries"] == 2
        assert "already" in second["detail"]
        assert (unknown["state"], unknown["detail"]) == ("dead", "It is not there.")
        cancelled = await both.remote("erp").effects(function="Cancel")
        assert len(cancelled) == 1


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

    async def test_an_alarm_over_mqtt_becomes_an_incident_once(self, around: Around) -> None:
        both, api = around
        alarm = {"asset_id": "SUB-6", "fault_type": "degradation", "severity": "P4", "description": "Oil warm"}
        async with await aio_pika.connect(both.broker.url_of(user=ALARM_USER, password=PASSWORD)) as connection:
            # RabbitMQ gives what is published to this exchange to the subscribers of MQTT, and the other way round.
            topics = await (await connection.channel()).get_exchange("amq.topic")
            for count in (1, 2):
                message = aio_pika.Message(json.dumps(alarm).encode(), delivery_mode=DeliveryMode.PERSISTENT)
                await topics.publish(message, routing_key="busbar.alarms")
                await until(partial(_are_forwarded, both, count), what=f"message {count}")
        page = await api.get("/api/v1/pm/incidents?asset_id=SUB-6&fault_type=degradation")
        assert len(page["items"]) == 1


async def _are_forwarded(both: BothWays, count: int) -> bool:
    return len(list((both.alarms / ".done").glob("*-mqtt-*.json"))) == count


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
