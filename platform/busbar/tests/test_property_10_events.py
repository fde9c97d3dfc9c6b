"""Property 10: every event has a unique id, its request's correlation id, its module's prefix and a sane time."""

import itertools
import string
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import jsonschema
import msgspec
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.kit.clock import utc_now
from busbar.testing.app import Client, RunningApp

CORRELATION_IDS = st.text(string.ascii_letters + string.digits + "-_.:", min_size=1, max_size=60)
LINES = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=60)
SEVERITIES = st.sampled_from(["P1", "P2", "P3", "P4"])
REQUESTS = st.one_of(
    st.fixed_dictionaries(
        {
            "fault_type": st.sampled_from(["fault", "outage", "degradation"]),
            "severity": SEVERITIES,
            "description": LINES,
        }
    ).map(lambda body: ("/pm/incidents", body)),
    st.fixed_dictionaries(
        {
            "order_type": st.sampled_from(["preventive", "corrective", "emergency"]),
            "description": LINES,
            "scheduled_date": st.just("2027-01-15"),
        }
    ).map(lambda body: ("/pm/maintenance-orders", body)),
    st.fixed_dictionaries({"quantity": st.integers(1, 50).map(str), "justification": LINES}).map(
        lambda body: ("/mm/purchase-requisitions", body)
    ),
    st.fixed_dictionaries(
        {
            "amount": st.decimals("0.01", "9999.99", places=2).map(str),
            "justification": LINES.map(lambda text: f"Pump {text}"),
            "approval_hierarchy": st.just(["role:Finance_Officer"]),
        }
    ).map(lambda body: ("/fi/approval-requests", body)),
)
"""What opens a ticket, in every module."""
ABOUT = {"pm": "asset_id", "mm": "material_id", "fi": "cost_center_id"}
"""The field that names what a request to a module is about."""
MATERIAL = {
    "material_id": "FUSE-1",
    "description": "Fuse",
    "unit_of_measure": "EA",
    "quantity": "10",
    "unit_price": "86.40",
    "cost_center_id": "CC-1",
    "site": "a",
}
STEPS = st.integers(0, 3)
"""How far the ticket is moved, each step under a correlation id of its own."""
PATH = ("Assigned", "In_Progress", "Closed")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def things(app: RunningApp) -> dict[str, str]:
    """What requests are about: an asset, a material and a cost center of the site a, by the names of their ids."""
    admin = await app.client()
    asset = {"asset_type": "feeder", "name": "Feeder 7", "site": "a", "customers_served": 420}
    center = {
        "cost_center_id": "CC-1",
        "name": "Grid",
        "budget_amount": "1000000.00",
        "fiscal_year": utc_now().year,
        "responsible_manager": "Anna Berg",
        "site": "a",
    }
    await admin.post("/fi/cost-centers", center)
    await admin.post("/mm/materials", MATERIAL)
    asset_id = (await admin.post("/pm/assets", asset))["asset_id"]
    return {"asset_id": asset_id, "material_id": "FUSE-1", "cost_center_id": "CC-1"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def schemas(app: RunningApp) -> dict[str, dict[str, Any]]:
    admin = await app.client()
    return {each["type"]: each["json_schema"] for each in await admin.get("/events/types")}


async def acted(
    client: Client, request: tuple[str, dict[str, Any]], things: dict[str, str], ids: list[str], steps: int
) -> tuple[str, list[str]]:
    """Open a ticket and move it on; returns its id and the correlation ids in their order."""
    path, body = request
    about = ABOUT[module_of(path)]
    opened = await client.post(path, {**body, about: things[about]}, headers={"X-Correlation-ID": ids[0]})
    for step, correlation_id in zip(PATH[:steps], ids[1:], strict=False):
        await client.patch(
            f"/tickets/{opened['ticket_id']}/status",
            {"new_status": step},
            headers={"X-Correlation-ID": correlation_id},
        )
    return opened["ticket_id"], ids[: 1 + steps]


def module_of(path: str) -> str:
    return path.split("/")[1]


def in_turn(ids: Iterable[str]) -> list[str]:
    """The ids without what only repeats the one before: a request may tell more than one thing."""
    return [each for each, _ in itertools.groupby(ids)]


class TestEveryEvent:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(request=REQUESTS, ids=st.lists(CORRELATION_IDS, min_size=4, max_size=4), steps=STEPS)
    async def test_has_a_unique_id_the_requests_correlation_id_its_modules_prefix_and_a_sane_time(
        self,
        app: RunningApp,
        things: dict[str, str],
        schemas: dict[str, dict[str, Any]],
        request: tuple[str, dict[str, Any]],
        ids: list[str],
        steps: int,
    ) -> None:
        admin = await app.client()
        before = utc_now()
        ticket_id, expected = await acted(admin, request, things, ids, steps)
        after = utc_now()
        events = await admin.get(f"/tickets/{ticket_id}/events")
        module = module_of(request[0])
        direct = [event for event in events if not event["actor"].startswith("system:")]
        assert in_turn(event["correlationid"] for event in direct) == in_turn(expected)
        told = Counter(event["type"].removeprefix(f"{module.upper()}_") for event in direct)
        assert (told["TICKET_CREATED"], told["TICKET_UPDATED"]) == (1, steps)
        assert {event["correlationid"] for event in events} == set(expected)
        assert len({event["id"] for event in events}) == len(events)
        for event in events:
            assert UUID(event["id"]).version == 7
            assert event["type"].startswith(f"{module.upper()}_")
            assert (event["source"], event["site"]) == (f"/busbar/a/{module}", "a")
            at = msgspec.convert(event["time"], datetime)
            assert at.utcoffset() == UTC.utcoffset(None)
            assert before <= at <= after or event not in direct
            jsonschema.validate(event["data"], schemas[event["type"]], cls=jsonschema.Draft202012Validator)

    async def test_of_the_whole_run_has_an_id_of_its_own_and_a_position_without_gaps(
        self, app: RunningApp, things: dict[str, str]
    ) -> None:
        admin = await app.client()
        await acted(admin, ("/pm/incidents", an_incident()), things, ["c-1", "c-2"], 1)
        await app.quiet()
        seen: list[dict[str, Any]] = []
        cursor = ""
        while cursor is not None:
            page = await admin.get(f"/events?limit=200&cursor={cursor}" if cursor else "/events?limit=200")
            seen += page["items"]
            cursor = page["next"]
        assert len({event["id"] for event in seen}) == len(seen)
        assert [event["position"] for event in reversed(seen)] == list(range(1, len(seen) + 1))
        assert (await admin.get("/deliveries/summary"))["balanced"] is True

    async def test_that_a_module_tells_because_of_another_keeps_to_the_same(
        self, app: RunningApp, things: dict[str, str], schemas: dict[str, dict[str, Any]]
    ) -> None:
        """Stock falls below its level: cost, requisition, commitment and approval follow, under one correlation id."""
        admin = await app.client()
        await admin.post("/mm/materials", MATERIAL | {"material_id": "FUSE-2", "reorder_level": "5"})
        issue = {"material_id": "FUSE-2", "quantity_change": "-8", "transaction_type": "issue"}
        await admin.post("/mm/stock-transactions", issue, headers={"X-Correlation-ID": "one-issue"})
        await app.quiet()
        events = (await admin.get("/events?correlation_id=one-issue&limit=200"))["items"]
        assert {event["type"] for event in events} >= {
            "MM_STOCK_CHANGED",
            "MM_REORDER_TRIGGERED",
            "MM_REQUISITION_CREATED",
            "MM_TICKET_CREATED",
            "FI_COST_POSTED",
            "FI_COMMITMENT_CHANGED",
            "FI_TICKET_CREATED",
            "FI_APPROVAL_REQUESTED",
        }
        assert len({event["id"] for event in events}) == len(events)
        for event in events:
            module = event["type"].partition("_")[0].lower()
            assert (event["source"], event["site"]) == (f"/busbar/a/{module}", "a")
            jsonschema.validate(event["data"], schemas[event["type"]], cls=jsonschema.Draft202012Validator)


class TestTraceOfARequest:
    async def test_leads_from_the_request_to_what_came_of_it(self, app: RunningApp, things: dict[str, str]) -> None:
        admin = await app.client()
        ticket_id, _ = await acted(admin, ("/pm/incidents", an_incident()), things, ["trace-me", "later"], 1)
        await app.quiet()
        trace = await admin.get("/events/trace/trace-me")
        assert trace["subjects"] == [ticket_id]
        assert [step["kind"] for step in trace["steps"]][:3] == ["request", "act", "event"]
        assert trace["steps"][0]["actor"] == "admin"
        whole = await admin.get(f"/events/trace/{ticket_id}")
        assert whole["correlation_ids"] == ["trace-me", "later"]


class TestStream:
    async def test_tells_a_signed_in_caller_of_an_incident(self, app: RunningApp, things: dict[str, str]) -> None:
        admin = await app.client()
        ticket_id, _ = await acted(admin, ("/pm/incidents", an_incident()), things, ["streamed"], 0)
        await app.quiet()
        events = await admin.get("/events?correlation_id=streamed")
        position = events["items"][0]["position"]
        first = await first_event(admin, after=position - 1)
        assert (first["subject"], first["correlationid"]) == (ticket_id, "streamed")

    async def test_is_closed_to_callers_without_a_token(self, app: RunningApp) -> None:
        await app.anonymous.get("/events/stream", status=401)


def an_incident() -> dict[str, Any]:
    return {"fault_type": "fault", "severity": "P3", "description": "A bird on the line"}


async def first_event(client: Client, *, after: int) -> dict[str, Any]:
    """The first event of the stream after a position."""
    headers = {"Authorization": f"Bearer {client.token}", "Last-Event-ID": str(after)}
    async with (
        aiohttp.ClientSession() as session,
        session.get(client.url("/events/stream"), headers=headers) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data: "):
                event: dict[str, Any] = msgspec.json.decode(line.removeprefix(b"data: "))
                return event
    raise AssertionError("the stream ended")
