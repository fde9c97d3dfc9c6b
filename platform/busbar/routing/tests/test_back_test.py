"""A back-test: what a rule would have done with the latest events, beside the route as it is."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from busbar.db import fetchval
from busbar.routing import back_test as module
from busbar.routing.tests.support import Platform, add_route, an_actor, report
from busbar.routing.tests.web import serving

MAPPING = {"text": "=data.title", "urgency": "=data.severity == 'P1' ? 1 : 2"}


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with serving() as made:
        yield made


async def of(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/routes/back-test", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def report_all(platform: Platform, *severities: str, **said: Any) -> list[str]:
    ids = [str(await report(severity=severity, **said)) for severity in severities]
    await platform.relay_all()
    return ids


class TestABackTest:
    async def test_of_a_rule_alone_counts_what_it_would_have_done(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        ids = await report_all(platform, "P1", "P2", "P3")
        rule = {"pattern": ["TST_*"], "filter": "data.severity == 'P1'"}
        answer = await of(client, rule=rule)
        assert (answer["events"], answer["complete"], answer["before"]) == (3, True, None)
        assert answer["after"] == {"would_deliver": 1, "not_wanted": 2, "failed": 0, "echo": 0}
        assert [(each["event_id"], each["after"]) for each in answer["changes"]] == [(ids[0], "would_deliver")]

    async def test_shows_which_events_would_be_new_and_which_would_be_left_out(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await add_route("r", filter="data.severity == 'P1'")
        ids = await report_all(platform, "P1", "P2", "P3")
        rule = {"pattern": ["TST_FAULT_*"], "filter": "data.severity == 'P2'"}
        answer = await of(client, route_id="r", rule=rule)
        assert answer["before"]["would_deliver"] == answer["after"]["would_deliver"] == 1
        shown = [(each["event_id"], each["before"], each["after"], each["explanation"]) for each in answer["changes"]]
        assert shown == [
            (ids[1], "not_wanted", "would_deliver", "No mapping: the event goes on as it is."),
            (ids[0], "would_deliver", "not_wanted", "The filter is false; the route leaves this event alone."),
        ]

    async def test_shows_how_the_documents_would_differ(self, client: httpx.AsyncClient, platform: Platform) -> None:
        await add_route("r", mapping=MAPPING)
        await report_all(platform, "P1", "P2")
        rule = {"pattern": ["TST_*"], "mapping": MAPPING | {"urgency": "=data.severity == 'P1' ? 1 : 3"}}
        answer = await of(client, route_id="r", rule=rule)
        assert answer["changed"] == 1
        (change,) = answer["changes"]
        assert (change["before"], change["after"]) == ("would_deliver", "would_deliver")
        assert change["differences"] == [{"field": "urgency", "kind": "changed", "before": 2, "after": 3}]

    async def test_counts_what_would_become_a_dead_letter_and_says_why(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await report_all(platform, "P1")
        answer = await of(client, rule={"mapping": {"n": "=data.customers + 1"}})
        assert answer["after"]["failed"] == 1
        assert answer["changes"][0]["explanation"]

    async def test_of_an_unfinished_rule_says_what_is_wrong(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await report_all(platform, "P1")
        answer = await of(client, rule={"filter": "data.severity ="})
        assert answer["after"]["failed"] == 1
        assert "is no operator" in answer["changes"][0]["explanation"]

    async def test_knows_what_came_in_from_the_endpoint_itself(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await report(origin="acme")
        await platform.relay_all()
        answer = await of(client, rule={"endpoint_id": "acme"})
        assert answer["after"] == {"would_deliver": 0, "not_wanted": 0, "failed": 0, "echo": 1}

    async def test_of_a_route_that_is_not_changed_finds_no_change(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        await add_route("r", filter="data.severity == 'P1'", mapping=MAPPING)
        await report_all(platform, "P1", "P2")
        same = {"pattern": ["TST_FAULT_*"], "filter": "data.severity == 'P1'", "mapping": MAPPING}
        answer = await of(client, route_id="r", rule=same)
        assert (answer["events"], answer["changed"], answer["changes"]) == (2, 0, [])

    async def test_takes_the_latest_events_of_the_types_that_are_asked_for(
        self, client: httpx.AsyncClient, platform: Platform
    ) -> None:
        ids = await report_all(platform, "P1", "P1", "P1")
        answer = await of(client, rule={"pattern": ["TST_FAULT_REPORTED"]}, events=2)
        assert [each["event_id"] for each in answer["changes"]] == [ids[2], ids[1]]
        assert (await of(client, rule={"pattern": ["TSTxFAULT_*"]}))["events"] == 0, "_ stands for itself"

    async def test_ends_when_its_time_is_up(
        self, client: httpx.AsyncClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await report_all(platform, "P1", "P1", "P1")
        monkeypatch.setattr(module, "SECONDS_MAX", -1.0)
        answer = await of(client, rule={})
        assert (answer["events"], answer["complete"]) == (1, False)

    async def test_calls_no_one_and_writes_nothing(self, client: httpx.AsyncClient, platform: Platform) -> None:
        await add_route("r", published=False)
        await report_all(platform, "P1")
        before = await fetchval("select count(*) from core.delivery")
        await of(client, route_id="r")
        assert await fetchval("select count(*) from core.delivery") == before == 0

    async def test_shows_nobody_events_of_other_sites(self, platform: Platform) -> None:
        await report(site="south")
        await platform.relay_all()
        async with serving(an_actor(sites=["north"])) as northern:
            assert (await of(northern, rule={}))["events"] == 0

    @pytest.mark.parametrize("body", [{}, {"rule": {}, "events": 0}, {"rule": {}, "events": 1_001}])
    async def test_refuses_what_it_cannot_do(self, client: httpx.AsyncClient, body: Any) -> None:
        assert (await client.post("/routes/back-test", json=body)).status_code == 400
