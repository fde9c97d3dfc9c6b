"""Events and deliveries over HTTP: lists, filters, what is hidden, types, and the sums."""

from datetime import timedelta
from typing import Any

import pytest

from busbar.db import execute, fetchrow
from busbar.events import ledger
from busbar.events.ledger import Outcome
from busbar.events.tests.facts import NEWS, OTHER, a_relay, a_subscription, an_actor, tell
from busbar.events.tests.served import Api
from busbar.kit.clock import utc_now

pytestmark = pytest.mark.usefixtures("database")

ENGINEER = an_actor(sites=("north",), permissions=("tst.read", "events.read", "deliveries.read"))


async def told_and_relayed() -> None:
    await tell(1, subject="S-1", site="north", correlation_id="c-1")
    await tell(2, subject="S-2", site="south", correlation_id="c-2")
    await tell(3, subject="S-1", site="north", event_type=NEWS, correlation_id="c-3")
    await tell(4, subject="O-1", site="north", event_type=OTHER, correlation_id="c-1")
    await a_relay(a_subscription(), a_subscription("tst.other", pattern=("*",))).move_batch()


def numbers(page: Any) -> list[int]:
    return [item["data"]["n"] for item in page["items"]]


class TestListEvents:
    async def test_shows_cloud_events_newest_first_in_pages(self, api: Api) -> None:
        await told_and_relayed()
        page = await api.get("/events?limit=3")
        assert (numbers(page), page["total"]) == ([4, 3, 2], 4)
        rest = await api.get(f"/events?limit=3&cursor={page['next']}")
        assert (numbers(rest), rest["next"]) == ([1], None)
        first = rest["items"][0]
        assert first["specversion"] == "1.0"
        assert (first["type"], first["source"]) == ("TST_FACT", "/busbar/north/tst")
        assert (first["position"], first["module"], first["correlationid"]) == (1, "tst", "c-1")

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("type=TST_NEWS", [3]),
            ("type=TST_NEWS&type=OTH_FACT", [4, 3]),
            ("module=oth", [4]),
            ("site=south", [2]),
            ("subject=S-1", [3, 1]),
            ("correlation_id=c-1", [4, 1]),
            ("from=2001-01-01T00:00:00Z&to=2001-01-02T00:00:00Z", []),
            ("from=2001-01-01T00:00:00Z", [4, 3, 2, 1]),
        ],
    )
    async def test_can_be_narrowed(self, api: Api, query: str, found: list[int]) -> None:
        await told_and_relayed()
        assert numbers(await api.get(f"/events?{query}")) == found

    async def test_hides_other_sites_and_modules(self, api: Api) -> None:
        await told_and_relayed()
        api.signed.actor = ENGINEER
        page = await api.get("/events")
        assert (numbers(page), page["total"]) == ([3, 1], 2)
        assert numbers(await api.get("/events?site=south")) == []

    async def test_does_not_show_what_the_relay_has_not_seen(self, api: Api) -> None:
        await tell(1)
        assert numbers(await api.get("/events")) == []


class TestGetEvent:
    async def test_shows_it_before_the_relay_has_seen_it_too(self, api: Api) -> None:
        event_id = await tell(1)
        event = await api.get(f"/events/{event_id}")
        assert (event["id"], event["position"]) == (str(event_id), None)

    async def test_hides_one_of_another_site_as_if_there_were_none(self, api: Api) -> None:
        event_id = await tell(1, site="south")
        api.signed.actor = ENGINEER
        assert (await api.get(f"/events/{event_id}", status=404))["code"] == "RES_001"
        await api.get("/events/0190f3a0-0000-7000-8000-000000000000", status=404)
        await api.get("/events/nonsense", status=404)


class TestTypes:
    async def test_come_with_description_version_and_schema(self, api: Api) -> None:
        types = {each["type"]: each for each in await api.get("/events/types")}
        fact = types["TST_FACT"]
        assert (fact["module"], fact["version"], fact["description"]) == ("tst", 1, "Something happened.")
        assert fact["json_schema"]["$schema"].endswith("2020-12/schema")

    async def test_stand_in_the_asyncapi_document(self, api: Api) -> None:
        document = await api.get("/events/asyncapi")
        assert document["asyncapi"] == "3.0.0"
        assert "TST_FACT" in document["channels"]


class TestListDeliveries:
    async def test_can_be_narrowed_by_state_subscription_and_event(self, api: Api) -> None:
        await told_and_relayed()
        (held,) = await ledger.claim({"tst.reader": 1}, worker=1)
        await ledger.settle([(held, Outcome(state="dead", detail="poison"))])
        (dead,) = (await api.get("/deliveries?state=dead"))["items"]
        assert (dead["subject"], dead["last_error"], dead["next_attempt_at"]) == ("S-1", "poison", None)
        assert (await api.get("/deliveries"))["total"] == 7
        assert (await api.get("/deliveries?subscription=tst.other"))["total"] == 4
        assert (await api.get("/deliveries?subscription=tst.other&type=TST_FACT&site=south"))["total"] == 1
        assert (await api.get("/deliveries?state=dead&state=pending&subject=S-1"))["total"] == 4
        assert (await api.get("/deliveries?state=gone", status=400))["code"] == "VAL_001"

    async def test_hides_other_sites_and_modules(self, api: Api) -> None:
        await told_and_relayed()
        api.signed.actor = ENGINEER
        page = await api.get("/deliveries")
        assert {(each["site"], each["module"]) for each in page["items"]} == {("north", "tst")}
        hidden = await fetchrow("select delivery_id from core.delivery where site_id = 'south'")
        await api.get(f"/deliveries/{hidden['delivery_id']}", status=404)

    async def test_goes_on_with_the_cursor(self, api: Api) -> None:
        await told_and_relayed()
        first = await api.get("/deliveries?limit=4")
        second = await api.get(f"/deliveries?limit=4&cursor={first['next']}")
        ids = [each["delivery_id"] for each in first["items"] + second["items"]]
        assert ids == sorted(ids, reverse=True)
        assert len(set(ids)) == 7


class TestGetDelivery:
    async def test_shows_every_attempt_and_the_event(self, api: Api) -> None:
        await told_and_relayed()
        for outcome in (Outcome(state="retrying", detail="down", retry_at=utc_now()), Outcome(state="delivered")):
            (held,) = await ledger.claim({"tst.reader": 1}, worker=5)
            await ledger.settle([(held, outcome)])
        delivery = await api.get(f"/deliveries/{held.delivery_id}")
        assert [(each["attempt"], each["outcome"], each["detail"]) for each in delivery["tries"]] == [
            (1, "retrying", "down"),
            (2, "delivered", None),
        ]
        assert (delivery["state"], delivery["document"]) == ("delivered", None)
        assert delivery["event"]["data"]["n"] == 1

    @pytest.mark.parametrize("delivery_id", ["999999", "-1", str(2**63)])
    async def test_says_when_there_is_none(self, api: Api, delivery_id: str) -> None:
        body = await api.get(f"/deliveries/{delivery_id}", status=404 if delivery_id == "999999" else 400)
        assert body["code"] in ("RES_001", "VAL_001")


class TestSummary:
    async def test_adds_up_in_every_state(self, api: Api) -> None:
        await told_and_relayed()
        await tell(5)
        one, two = await ledger.claim({"tst.other": 2}, worker=1)
        await ledger.settle([(one, Outcome(state="delivered")), (two, Outcome(state="dead", detail="poison"))])
        await ledger.claim({"tst.other": 1}, worker=1)
        summary = await api.get("/deliveries/summary")
        assert (summary["events_written"], summary["events_handed_on"], summary["events_waiting"]) == (5, 4, 1)
        assert summary["deliveries"] == 7
        assert (summary["delivered"], summary["open"], summary["parked"], summary["skipped"]) == (1, 5, 1, 0)
        assert summary["balanced"] is True
        states = {each["state"]: each for each in summary["states"]}
        assert (states["in_flight"]["count"], states["pending"]["count"]) == (1, 4)
        assert states["dead"]["oldest_age_s"] >= 0
        assert states["delivered"]["oldest_at"] is None

    async def test_tells_when_an_event_has_vanished(self, api: Api) -> None:
        await told_and_relayed()
        await execute("delete from core.event where position = 2")
        assert (await api.get("/deliveries/summary"))["balanced"] is False

    async def test_counts_only_what_the_caller_may_see(self, api: Api) -> None:
        await told_and_relayed()
        api.signed.actor = ENGINEER
        summary = await api.get("/deliveries/summary")
        assert (summary["events_written"], summary["deliveries"], summary["balanced"]) == (2, 4, True)


class TestMoments:
    async def test_from_is_inclusive_and_to_exclusive(self, api: Api) -> None:
        await told_and_relayed()
        noon = utc_now().replace(microsecond=0) - timedelta(days=1)
        await execute("update core.event set time = $1 where position = 1", noon)
        at = noon.strftime("%Y-%m-%dT%H:%M:%SZ")
        later = (noon + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert numbers(await api.get(f"/events?from={at}&to={later}")) == [1]
        assert numbers(await api.get(f"/events?to={at}")) == []
