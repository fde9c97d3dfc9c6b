"""Property 2: every legal path of a ticket passes, every other transition is refused, one audit entry per success."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.testing.app import Client, RunningApp

STATUSES = ("Open", "Assigned", "In_Progress", "Closed", "Cancelled")
NEXT = {"Open": "Assigned", "Assigned": "In_Progress", "In_Progress": "Closed"}
FINISHED = ("Closed", "Cancelled")
VERBS = (*(f"move {status}" for status in STATUSES), "hold", "resume", "cancel", "reopen", "assign", "notes")


class Model(msgspec.Struct, kw_only=True):
    """What the specification says of a ticket (SPEC R1.5), written down a second time, apart from the code."""

    status: str = "Open"
    on_hold: bool = False
    trail: list[tuple[str, str | None, str]] = []
    """Action, previous and new status."""

    def refusal(self, verb: str) -> str | None:
        """The code with which a verb is refused, or None."""
        if verb.startswith("move "):
            if NEXT.get(self.status) != verb.removeprefix("move "):
                return "BUS_001"
            return "BUS_002" if self.on_hold else None
        forbidden = {
            "hold": self.on_hold or self.status in FINISHED,
            "resume": not self.on_hold,
            "cancel": self.status in FINISHED,
            "reopen": self.status != "Closed",
            "assign": self.status in FINISHED,
            "notes": False,
        }[verb]
        return "BUS_001" if forbidden else None

    def apply(self, verb: str) -> None:
        """What a verb that is not refused makes of the ticket."""
        before = self.status
        match verb.split():
            case ["move", status]:
                self.status = status
            case ["hold"]:
                self.on_hold = True
            case ["resume"]:
                self.on_hold = False
            case ["cancel"]:
                self.status, self.on_hold = "Cancelled", False
            case ["reopen"]:
                self.status = "In_Progress"
            case ["assign"] if before == "Open":
                self.status = "Assigned"
        action = {"notes": "note"}.get(verb, verb.split()[0])
        self.trail.append((f"ticket.{action}", before, self.status))


def paths_to() -> dict[tuple[str, bool], tuple[str, ...]]:
    """A shortest way to every state that can be reached."""
    found: dict[tuple[str, bool], tuple[str, ...]] = {("Open", False): ()}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        path = waiting.pop(0)
        for verb in VERBS:
            model = Model(trail=[])
            for step in path:
                model.apply(step)
            if model.refusal(verb) is None:
                model.apply(verb)
                if (model.status, model.on_hold) not in found:
                    found[model.status, model.on_hold] = (*path, verb)
                    waiting.append((*path, verb))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asset_id(app: RunningApp) -> str:
    asset = {"asset_type": "feeder", "name": "Feeder 7", "site": "a"}
    return str((await (await app.client()).post("/pm/assets", asset))["asset_id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def material_id(app: RunningApp) -> str:
    material = {"material_id": "FUSE-1", "description": "Fuse", "unit_of_measure": "EA", "site": "a"}
    return str((await (await app.client()).post("/mm/materials", material))["material_id"])


@pytest.fixture
async def engineer(app: RunningApp) -> Client:
    return await app.client("Maintenance_Engineer", "a")


async def open_ticket(client: Client, asset_id: str) -> str:
    incident = {"asset_id": asset_id, "fault_type": "fault", "severity": "P3", "description": "A bird on the line"}
    return str((await client.post("/pm/incidents", incident))["ticket_id"])


async def act(client: Client, ticket_id: str, verb: str, *, comment: str = "because") -> tuple[int, Any]:
    """Do it over HTTP; status and body of the answer."""
    if verb.startswith("move "):
        body = {"new_status": verb.removeprefix("move "), "comment": comment}
        answer = await client.send("PATCH", f"/tickets/{ticket_id}/status", body)
    else:
        body = {"assign": {"assignee": "admin", "comment": comment}, "notes": {"comment": comment}}.get(
            verb, {"comment": comment} if verb == "resume" else {"reason": comment}
        )
        answer = await client.send("POST", f"/tickets/{ticket_id}/{verb}", body)
    if answer.status == 200:
        assert answer.headers["ETag"] == f'"v{answer.body["version"]}"'
    return answer.status, answer.body


async def walk(client: Client, ticket_id: str, verbs: list[str]) -> None:
    """Try the verbs in turn on a new ticket, and compare ticket, trail and events with the model after each.

    What a module itself notes about the thing that the ticket is about stands beside it in the trail.
    """
    model = Model(trail=[("ticket.open", None, "Open")])
    ticket = await client.get(f"/tickets/{ticket_id}")
    for number, verb in enumerate(verbs):
        refusal = model.refusal(verb)
        status, body = await act(client, ticket_id, verb, comment=f"step {number}")
        if refusal is None:
            assert status == 200, (verb, model, body)
            model.apply(verb)
            assert (body["status"], body["on_hold"]) == (model.status, model.on_hold), verb
            assert body["version"] == ticket["version"] + 1
            assert (body["closed_at"] is not None) == (model.status in FINISHED)
            ticket = body
        else:
            assert (status, body["code"]) == (422, refusal), (verb, model, body)
            assert await client.get(f"/tickets/{ticket_id}") == ticket, "a refused verb writes nothing"
    audit = [each for each in await client.get(f"/tickets/{ticket_id}/audit") if each["action"].startswith("ticket.")]
    assert [(each["action"], each["previous_status"], each["new_status"]) for each in audit] == model.trail
    assert {each["user"] for each in audit} == {(await client.get("/auth/me"))["username"]}
    events = await client.get(f"/tickets/{ticket_id}/events")
    told = [event["data"]["status"] for event in events if event["type"].endswith("_TICKET_UPDATED")]
    assert told == [new for action, _, new in model.trail if action != "ticket.open"]


class TestLifecycle:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(verbs=st.lists(st.sampled_from(VERBS), max_size=12))
    async def test_follows_the_model_for_any_verbs(self, engineer: Client, asset_id: str, verbs: list[str]) -> None:
        await walk(engineer, await open_ticket(engineer, asset_id), verbs)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(verbs=st.lists(st.sampled_from(VERBS), max_size=12))
    async def test_of_a_purchase_follows_it_too(self, app: RunningApp, material_id: str, verbs: list[str]) -> None:
        store = await app.client("Store_Manager", "a")
        wanted = await store.post("/mm/purchase-requisitions", {"material_id": material_id, "quantity": "1"})
        await walk(store, wanted["ticket_id"], verbs)

    @pytest.mark.parametrize(("state", "way"), sorted(paths_to().items()), ids=lambda value: str(value))
    async def test_allows_or_refuses_every_verb_in_every_state(
        self, engineer: Client, asset_id: str, state: tuple[str, bool], way: tuple[str, ...]
    ) -> None:
        """Every pair once, so that no luck is needed to meet it."""
        model = Model(trail=[])
        for verb in way:
            model.apply(verb)
        assert (model.status, model.on_hold) == state
        refused = [verb for verb in VERBS if model.refusal(verb)]
        for allowed in (verb for verb in VERBS if not model.refusal(verb)):
            await walk(engineer, await open_ticket(engineer, asset_id), [*way, *refused, allowed])

    def test_has_the_states_of_the_specification(self) -> None:
        held = {("Open", True), ("Assigned", True), ("In_Progress", True)}
        assert set(paths_to()) == {(status, False) for status in STATUSES} | held

    async def test_keeps_time_user_both_states_and_comment_of_each_step(self, engineer: Client, asset_id: str) -> None:
        ticket_id = await open_ticket(engineer, asset_id)
        await act(engineer, ticket_id, "move Assigned", comment="Crew 4 takes it")
        opened, moved = await engineer.get(f"/tickets/{ticket_id}/audit")
        assert (moved["previous_status"], moved["new_status"]) == ("Open", "Assigned")
        assert (moved["user"], moved["comment"]) == ("maintenance_engineer-a", "Crew 4 takes it")
        assert opened["at"] < moved["at"]


class TestHold:
    async def test_moves_the_deadline_by_the_time_it_lasted(self, engineer: Client, asset_id: str) -> None:
        ticket_id = await open_ticket(engineer, asset_id)
        before = await engineer.get(f"/tickets/{ticket_id}")
        _, held = await act(engineer, ticket_id, "hold")
        _, resumed = await act(engineer, ticket_id, "resume")
        assert held["sla_deadline"] == before["sla_deadline"]
        lasted = _moment(resumed["updated_at"]) - _moment(held["updated_at"])
        moved = _moment(resumed["sla_deadline"]) - _moment(before["sla_deadline"])
        assert lasted > timedelta(0)
        assert abs(moved - lasted) < timedelta(milliseconds=100)

    async def test_needs_a_reason(self, engineer: Client, asset_id: str) -> None:
        ticket_id = await open_ticket(engineer, asset_id)
        for verb in ("hold", "cancel", "reopen"):
            answer = await engineer.send("POST", f"/tickets/{ticket_id}/{verb}", {})
            assert (answer.status, answer.body["code"]) == (400, "VAL_002"), verb


def _moment(text: str) -> datetime:
    return msgspec.convert(text, datetime)
