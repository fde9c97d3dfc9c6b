"""Service levels over HTTP, with a clock that is set by hand: calendars, targets, explanations, storms, alerts."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from busbar.testing.app import PASSWORD
from busbar.testing.database import TestServer
from busbar.tickets.tests.desk import HandClock
from busbar.tickets.tests.utility import MONDAY, Utility, utility

WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday")
OFFICE: dict[str, Any] = {
    "hours": [{"weekday": day, "starts": "07:00", "ends": "16:00"} for day in WEEK],
    "holidays": [{"day": "2026-11-24", "name": "Founders' Day"}],
}
OWN_TARGETS = {
    "targets": [{"sla_class": "standard", "priority": "P1", "response_s": 600, "resolution_s": 7_200}],
    "warn_percent": 50,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(postgres: TestServer) -> AsyncIterator[Utility]:
    clock = HandClock()
    clock.now = MONDAY
    async with utility(postgres, clock) as running:
        yield running


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def adds_up(target: dict[str, Any]) -> bool:
    """Whether an explanation's seconds are all there."""
    past = sum(each["counted_s"] for each in target["segments"] if not each["ahead"])
    ahead = sum(each["counted_s"] for each in target["segments"] if each["ahead"])
    running = target["stopped_at"] is None and target["remaining_s"] > 0
    whole = past == target["consumed_s"] and past + target["remaining_s"] == target["target_s"]
    return whole and ahead == (target["remaining_s"] if running else 0)


class TestCalendar:
    async def test_is_around_the_clock_until_somebody_sets_one(self, shared: Utility) -> None:
        calendar = await shared.client.get("/sites/b/calendar")
        assert (calendar["hours"], calendar["holidays"], calendar["version"]) == (None, [], 0)
        await shared.at(MONDAY)
        ticket = await shared.client.get(f"/tickets/{await shared.incident('b')}")
        assert moment(ticket["sla_deadline"]) == MONDAY + timedelta(hours=4)

    async def test_moves_deadlines_into_working_hours_and_explains_how(self, shared: Utility) -> None:
        await shared.at(MONDAY)
        await shared.client.patch("/sites/a", {"timezone": "Europe/Berlin"})
        calendar = await shared.put("/sites/a/calendar", OFFICE)
        assert (calendar["timezone"], calendar["version"], calendar["changed_by"]) == ("Europe/Berlin", 1, "admin")
        ticket_id = await shared.incident("a")
        ticket = await shared.client.get(f"/tickets/{ticket_id}")
        # Half an hour on Monday; Tuesday is a holiday; three and a half hours on Wednesday from 07:00.
        assert moment(ticket["sla_deadline"]) == datetime(2026, 11, 25, 9, 30, 0, 250_000, tzinfo=UTC)
        (created,) = [
            each for each in await shared.client.get(f"/tickets/{ticket_id}/events") if each["type"].endswith("CREATED")
        ]
        assert moment(created["data"]["sla_deadline"]) == moment(ticket["sla_deadline"])
        told = await shared.client.get(f"/tickets/{ticket_id}/sla")
        assert told["calendar"] == {"site": "a", "version": 1}
        work = told["resolution"]
        assert moment(work["deadline"]) == moment(ticket["sla_deadline"])
        assert (work["target_s"], work["consumed_s"], work["remaining_s"], work["state"]) == (
            14_400,
            0,
            14_400,
            "running",
        )
        assert [(each["kind"], each["note"], each["counted_s"]) for each in work["segments"]] == [
            ("working", "", 1_799),
            ("outside_hours", "", 0),
            ("holiday", "Founders' Day", 0),
            ("outside_hours", "", 0),
            ("working", "", 12_601),
        ]
        assert adds_up(work)
        assert adds_up(told["response"])

    async def test_that_changes_leaves_what_was_promised(self, shared: Utility) -> None:
        await shared.at(MONDAY)
        await shared.put("/sites/a/calendar", OFFICE)
        ticket_id = await shared.incident("a")
        before = await shared.client.get(f"/tickets/{ticket_id}/sla")
        await shared.put("/sites/a/calendar", {"hours": None})
        assert await shared.client.get(f"/tickets/{ticket_id}/sla") == before
        await shared.client.post(f"/tickets/{ticket_id}/hold", {"reason": "x"}, status=200)
        await shared.client.post(f"/tickets/{ticket_id}/resume", {}, status=200)
        assert (await shared.client.get(f"/tickets/{ticket_id}"))["sla_deadline"] == before["resolution"]["deadline"]

    async def test_moves_with_the_time_zone_of_its_site(self, shared: Utility) -> None:
        await shared.put("/sites/a/calendar", OFFICE)
        version = (await shared.client.get("/sites/a/calendar"))["version"]
        await shared.client.patch("/sites/a", {"timezone": "Asia/Kolkata"})
        calendar = await shared.client.get("/sites/a/calendar")
        assert (calendar["timezone"], calendar["version"]) == ("Asia/Kolkata", version + 1)
        await shared.at(MONDAY)
        async with asyncio.timeout(30):  # the change is told to every process, this one among them
            while (await shared.client.get(f"/tickets/{await shared.incident('a')}/sla"))["calendar"][
                "version"
            ] == version:
                await asyncio.sleep(0.05)
        await shared.client.patch("/sites/a", {"timezone": "Europe/Berlin"})

    async def test_names_every_field_that_cannot_be(self, shared: Utility) -> None:
        bad = {
            "hours": [
                {"weekday": "monday", "starts": "09:00", "ends": "08:00"},
                {"weekday": "friday", "starts": "09:00", "ends": "12:00"},
                {"weekday": "friday", "starts": "11:00", "ends": "24:00"},
            ],
            "holidays": [{"day": "2026-12-25", "name": "x"}, {"day": "2026-12-25", "name": "y"}],
        }
        answer = await shared.put("/sites/a/calendar", bad, status=400)
        assert [each["field"] for each in answer["errors"]] == ["hours[0].ends", "hours", "holidays[1].day"]
        short = {"hours": [{"weekday": "monday", "starts": "09:00", "ends": "12:59"}]}
        assert (await shared.put("/sites/a/calendar", short, status=400))["errors"][0]["field"] == "hours"
        odd = {"hours": [{"weekday": "monday", "starts": "7:00", "ends": "24:01"}]}
        assert "such as 07:30" in (await shared.put("/sites/a/calendar", odd, status=400))["errors"][0]["message"]

    async def test_is_based_on_the_version_that_if_match_names(self, shared: Utility) -> None:
        seen = (await shared.client.send("GET", "/sites/b/calendar")).headers["ETag"]
        await shared.put("/sites/b/calendar", {"hours": None}, If_Match=seen)
        await shared.put("/sites/b/calendar", {"hours": None}, status=412, If_Match=seen)


class TestTargets:
    async def test_are_those_of_the_specification_until_somebody_sets_others(self, shared: Utility) -> None:
        told = await shared.client.get("/sla/targets")
        standard = {each["priority"]: each for each in told["targets"] if each["sla_class"] == "standard"}
        assert [standard[priority]["resolution_s"] / 3_600 for priority in sorted(standard)] == [4, 8, 24, 72]
        assert {each["set_for"] for each in told["targets"]} == {"nobody"}
        assert (told["warn_percent"], told["version"], len(told["targets"])) == (80, 0, 8)

    async def test_of_a_site_are_promised_there_only_and_can_be_taken_back(self, shared: Utility) -> None:
        await shared.at(MONDAY)
        told = await shared.put("/sites/b/sla-targets", OWN_TARGETS)
        assert [each["set_for"] for each in told["targets"]] == ["site"] + ["nobody"] * 7
        work = (await shared.client.get(f"/tickets/{await shared.incident('b')}/sla"))["resolution"]
        assert (work["target_s"], moment(work["deadline"])) == (7_200, MONDAY + timedelta(hours=2))
        assert moment(work["warning_at"]) == MONDAY + timedelta(hours=1)
        await shared.put("/sites/b/sla-targets", {"targets": []})
        work = (await shared.client.get(f"/tickets/{await shared.incident('b')}/sla"))["resolution"]
        assert work["target_s"] == 14_400

    async def test_of_all_sites_hold_where_a_site_has_none_of_its_own(self, shared: Utility) -> None:
        for_all = {"targets": [OWN_TARGETS["targets"][0] | {"priority": "P3"}]}
        await shared.put("/sla/targets", for_all)
        told = await shared.client.get("/sites/b/sla-targets")
        assert [each["set_for"] for each in told["targets"] if each["priority"] == "P3"] == ["all_sites", "nobody"]
        await shared.put("/sla/targets", {"targets": []})

    async def test_of_all_sites_are_not_for_somebody_of_one(self, shared: Utility) -> None:
        new = {"username": "b-only", "display_name": "B", "password": PASSWORD, "roles": ["Admin"], "sites": ["b"]}
        await shared.client.post("/users", new)
        one = await shared.app.sign_in("b-only")
        answer = await one.send("PUT", "/sla/targets", OWN_TARGETS)
        assert (answer.status, answer.body["code"]) == (403, "AUTH_003")
        assert (await one.send("PUT", "/sites/a/sla-targets", OWN_TARGETS)).status == 404

    async def test_that_contradict_each_other_are_named(self, shared: Utility) -> None:
        (target,) = OWN_TARGETS["targets"]
        answer = await shared.put("/sla/targets", {"targets": [target, target | {"response_s": 7_201}]}, status=400)
        assert [each["field"] for each in answer["errors"]] == ["targets[1]", "targets[1].resolution_s"]

    async def test_of_all_sites_are_based_on_the_version_that_if_match_names(self, shared: Utility) -> None:
        seen = (await shared.client.send("GET", "/sla/targets")).headers["ETag"]
        await shared.put("/sla/targets", {"targets": []}, If_Match=seen)
        await shared.put("/sla/targets", {"targets": []}, status=412, If_Match=seen)


class TestExplanation:
    async def test_follows_a_ticket_through_hold_and_end(self, shared: Utility) -> None:
        await shared.at(MONDAY)
        ticket_id = await shared.incident("b")
        await shared.later(minutes=10)
        await shared.client.patch(f"/tickets/{ticket_id}/status", {"new_status": "Assigned"})
        await shared.later(minutes=50, microseconds=3)
        await shared.client.post(f"/tickets/{ticket_id}/hold", {"reason": "waits"}, status=200)
        await shared.later(hours=2)
        told = await shared.client.get(f"/tickets/{ticket_id}/sla")
        assert (told["response"]["state"], told["response"]["consumed_s"]) == ("kept", 600)
        assert (told["resolution"]["state"], told["resolution"]["consumed_s"]) == ("on_hold", 3_600)
        await shared.client.post(f"/tickets/{ticket_id}/resume", {}, status=200)
        await shared.later(hours=4)
        told = await shared.client.get(f"/tickets/{ticket_id}/sla")
        work = told["resolution"]
        assert (work["state"], work["remaining_s"]) == ("late", -3_600)
        assert [(each["kind"], each["counted_s"]) for each in work["segments"]] == [
            ("working", 3_600),
            ("on_hold", 0),
            ("working", 10_800),
            ("working", 3_600),
        ], "the deadline parts what was in time from what was late"
        assert work["deadline"] == (await shared.client.get(f"/tickets/{ticket_id}"))["sla_deadline"]
        for status in ("In_Progress", "Closed"):
            await shared.client.patch(f"/tickets/{ticket_id}/status", {"new_status": status})
        ended = (await shared.client.get(f"/tickets/{ticket_id}/sla"))["resolution"]
        await shared.later(hours=9)
        told = await shared.client.get(f"/tickets/{ticket_id}/sla")
        assert told["resolution"] == ended
        assert ended["state"] == "broken"
        assert adds_up(told["resolution"])
        assert adds_up(told["response"])


class TestStorm:
    async def test_declared_later_and_withdrawn_is_seen_on_its_incidents(self, shared: Utility) -> None:
        await shared.at(MONDAY + timedelta(days=7))
        ticket_id = await shared.incident("b")
        before = await shared.client.get(f"/tickets/{ticket_id}")
        await shared.later(hours=1)
        storm = {"site": "b", "name": "Zeynep", "starts_at": "2026-11-30T06:00:00Z", "ends_at": "2026-11-30T15:00:00Z"}
        event = await shared.client.post("/sla/weather-events", storm)
        assert (event["tickets"], event["site"], event["version"]) == (1, "b", 1)
        told = await shared.client.get(f"/tickets/{ticket_id}/sla")
        work = told["resolution"]
        assert (told["sla_class"], told["weather_event_id"]) == ("storm", event["weather_event_id"])
        assert (told["round"], work["target_s"]) == (2, 43_200)
        assert [(each["kind"], each["counted_s"], each["ahead"]) for each in work["segments"]] == [
            ("storm", 1_799, False),
            ("working", 1_801, False),
            ("working", 39_600, True),
        ]
        assert adds_up(work)
        path = f"/sla/weather-events/{event['weather_event_id']}"
        stale = await shared.client.send("PATCH", path, {"name": "x"}, headers={"If-Match": '"v9"'})
        assert stale.status == 412
        changed = await shared.client.patch(path, {"ends_at": "2026-11-30T14:00:00Z"})
        assert (changed["tickets"], changed["version"]) == (0, 2)
        assert (await shared.client.get(f"/tickets/{ticket_id}"))["sla_deadline"] == before["sla_deadline"]
        changed = await shared.client.patch(path, {"ends_at": "2026-11-30T16:00:00Z"})
        assert changed["tickets"] == 1
        withdrawn = await shared.client.post(f"{path}/withdraw", {"reason": "only wind"}, status=200)
        assert (withdrawn["tickets"], moment(withdrawn["withdrawn_at"])) == (0, shared.clock.now)
        after = await shared.client.get(f"/tickets/{ticket_id}")
        assert (after["sla_class"], after["sla_deadline"]) == ("standard", before["sla_deadline"])
        actions = [each["action"] for each in await shared.client.get(f"/tickets/{ticket_id}/audit")]
        assert actions.count("ticket.retarget") == 4
        assert (await shared.client.get("/sla/weather-events?site=b"))["items"] == [withdrawn]


class TestAlerts:
    async def test_are_declared_for_every_module_in_the_documents(self, shared: Utility) -> None:
        document = await shared.client.get("/events/asyncapi")
        modules = shared.app.platform.catalog.modules
        assert {f"{module.upper()}_SLA_{word}" for module in modules for word in ("WARNING", "BREACHED")} <= set(
            document["channels"]
        )
