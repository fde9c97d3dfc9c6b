"""The trace over HTTP: one document for a request, a ticket or a remote record, in the order of time."""

from typing import Any

import pytest

from busbar.audit import record
from busbar.db import execute, transaction
from busbar.events import ledger
from busbar.events.envelope import StoredEvent
from busbar.events.ledger import Outcome
from busbar.events.subscriptions import Match
from busbar.events.tests.facts import a_context, a_relay, a_subscription, an_actor, tell
from busbar.events.tests.served import Api
from busbar.kit.clock import utc_now

TICKET = "TKT-TST-20261123-0001"


class Routes:
    """Two routes: one sends to ITSM, the other says no."""

    def match(self, event: StoredEvent) -> list[Match]:
        return [
            Match(subscription="route.itsm", endpoint_id="itsm", route_id="itsm", route_version=3, document={"n": 1}),
            Match(
                subscription="route.erp", endpoint_id="erp", route_id="erp", state="skipped", reason="filter: P1 only"
            ),
        ]


async def a_story(*, correlation_id: str = "c-7", site: str = "north") -> None:
    """A ticket is opened; a handler gets the event, ITSM gets it at the second try, ERP does not."""
    ctx = a_context(correlation_id=correlation_id)
    async with transaction():
        await record(ctx, action="ticket.open", object_kind="ticket", object_id=TICKET, site_id=site, new_status="Open")
        await tell(1, subject=TICKET, site=site, correlation_id=correlation_id)
    await a_relay(a_subscription(), matchers=[Routes()]).move_batch()
    outcomes = (
        Outcome(state="retrying", detail="503 from the remote", retry_at=utc_now()),
        Outcome(state="delivered", remote_id="INC0012345"),
    )
    for outcome in outcomes:
        (held,) = await ledger.claim({"route.itsm": 1}, worker=1)
        await ledger.settle([(held, outcome)])
    await execute(
        "insert into core.remote_reference (endpoint_id, subject, remote_id, created_at) "
        "values ('itsm', $1, 'INC0012345', now())",
        TICKET,
    )


def outline(trace: Any) -> list[tuple[str, str | None, str | None]]:
    return [(step["kind"], step["subscription"], step["state"]) for step in trace["steps"]]


STORY = [
    ("request", None, None),
    ("act", None, "Open"),
    ("event", None, None),
    ("decision", "tst.reader", "pending"),
    ("decision", "route.itsm", "pending"),
    ("decision", "route.erp", "skipped"),
    ("attempt", "route.itsm", "retrying"),
    ("attempt", "route.itsm", "delivered"),
]


class TestTrace:
    async def test_tells_the_whole_story_in_the_order_of_time(self, api: Api) -> None:
        await a_story()
        trace = await api.get("/events/trace/c-7")
        assert outline(trace) == STORY
        assert [step["at"] for step in trace["steps"]] == sorted(step["at"] for step in trace["steps"])
        assert (trace["found_by"], trace["subjects"], trace["correlation_ids"]) == ("correlation_id", [TICKET], ["c-7"])
        assert trace["truncated"] is False
        request, opened, event, _, _, skipped, first, second = trace["steps"]
        assert request["actor"] == opened["actor"] == "alex"
        assert event["text"] == f"TST_FACT tells of {TICKET} at position 1."
        assert skipped["detail"] == "filter: P1 only"
        assert (first["attempt"], first["detail"], first["remote_id"]) == (1, "503 from the remote", None)
        assert (second["attempt"], second["remote_id"], second["endpoint_id"]) == (2, "INC0012345", "itsm")
        assert trace["remote_records"] == [{"subject": TICKET, "endpoint_id": "itsm", "remote_id": "INC0012345"}]
        assert [each["state"] for each in trace["deliveries"]] == ["pending", "delivered", "skipped"]

    @pytest.mark.parametrize(("key", "found_by"), [(TICKET, "subject"), ("INC0012345", "remote_id")])
    async def test_is_the_same_by_ticket_and_by_remote_id(self, api: Api, key: str, found_by: str) -> None:
        await a_story()
        trace = await api.get(f"/events/trace/{key}")
        assert outline(trace) == STORY
        assert trace["found_by"] == found_by

    async def test_is_found_by_event_id_and_by_the_remote_id_of_a_delivery(self, api: Api) -> None:
        await a_story()
        await execute("delete from core.remote_reference")
        assert outline(await api.get("/events/trace/INC0012345")) == STORY
        event_id = (await api.get("/events"))["items"][0]["id"]
        assert (await api.get(f"/events/trace/{event_id}"))["found_by"] == "event_id"

    async def test_of_a_ticket_joins_all_its_requests(self, api: Api) -> None:
        await a_story()
        await tell(2, subject=TICKET, correlation_id="c-8")
        trace = await api.get(f"/events/trace/{TICKET}")
        assert trace["correlation_ids"] == ["c-7", "c-8"]
        last = trace["steps"][-1]
        assert last["text"] == f"TST_FACT tells of {TICKET}; the relay has not seen it yet."

    async def test_shows_who_sent_a_dead_letter_again(self, api: Api) -> None:
        await a_story()
        await execute("update core.delivery set state = 'dead', attempts = 1 where subscription = 'tst.reader'")
        deliveries = (await api.get("/deliveries?state=dead"))["items"]
        await api.post(f"/deliveries/{deliveries[0]['delivery_id']}/replay", {"reason": "once more"})
        last = (await api.get("/events/trace/c-7"))["steps"][-1]
        assert (last["kind"], last["actor"], last["detail"]) == ("act", "alex", "once more")
        assert last["delivery_id"] == deliveries[0]["delivery_id"]

    async def test_hides_what_belongs_to_other_sites_and_modules(self, api: Api) -> None:
        await a_story(site="south")
        api.signed.actor = an_actor(sites=("north",))
        await api.get("/events/trace/c-7", status=404)
        api.signed.actor = an_actor(permissions=("events.read", "oth.read"))
        await api.get(f"/events/trace/{TICKET}", status=404)

    async def test_says_when_nothing_is_known(self, api: Api) -> None:
        body = await api.get("/events/trace/nobody-knows", status=404)
        assert body["code"] == "RES_001"
