"""Weather events, declared in time or afterwards: which tickets are in the class, and that all of it can be undone."""

import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from busbar.auth.actor import Context, system_actor
from busbar.db import execute, fetchval
from busbar.errors import ForbiddenTransition, InvalidPayload, NotFound
from busbar.events.registry import REGISTRY
from busbar.testing.plugins import add_site
from busbar.tickets import commands, retargeting, weather_events
from busbar.tickets.retargeting import settle_all
from busbar.tickets.sla_alerts import tell_alerts
from busbar.tickets.sla_terms import TERMS
from busbar.tickets.tests.desk import Desk

PROMISE = (
    "sla_class", "weather_event_id", "response_target_s", "resolution_target_s", "warn_percent", "response_deadline",
    "sla_deadline",
)  # fmt: skip


_NUMBERS = itertools.count()


class Place:
    """A site of its own for a test, with a desk that also works there."""

    def __init__(self, desk: Desk, site: str) -> None:
        self.site = site
        self.desk = desk
        self.clock = desk.clock
        everything = frozenset({*desk.ctx.actor.permissions, "sla.declare"})
        actor = msgspec.structs.replace(desk.ctx.actor, permissions=everything, sites=(site,))
        self.ctx = desk.ctx = msgspec.structs.replace(desk.ctx, actor=actor)
        self.system = Context(actor=system_actor("core"), correlation_id="job", clock=desk.clock)

    async def incident(self, **more: Any) -> str:
        return await self.desk.open(ticket_type="Incident", site=self.site, priority="P1", **more)

    async def declare(self, *, hours: tuple[float, float | None]) -> UUID:
        """An event from so many hours before now to so many after, or without an end."""
        now = self.clock.now
        return await weather_events.declare(
            self.ctx,
            site_id=self.site,
            name="Storm Zeynep",
            starts_at=now - timedelta(hours=hours[0]),
            ends_at=None if hours[1] is None else now + timedelta(hours=hours[1]),
        )

    async def promise(self, ticket_id: str) -> dict[str, Any]:
        ticket = await self.desk.ticket(ticket_id)
        return {name: ticket[name] for name in PROMISE}


@pytest.fixture
async def place(desk: Desk) -> Place:
    site = f"place-{next(_NUMBERS)}"
    await add_site(site, "tst")
    return Place(desk, site)


class TestDeclaredAfterwards:
    async def test_gives_incidents_of_its_period_other_targets_and_tells_it(self, place: Place) -> None:
        ticket_id = await place.incident()
        created_at = place.clock.now
        place.clock.advance(hours=2)
        declared = await place.declare(hours=(3, None))
        promise = await place.promise(ticket_id)
        assert (promise["sla_class"], promise["weather_event_id"]) == ("storm", declared)
        assert promise["sla_deadline"] == created_at + timedelta(hours=12)
        assert promise["response_deadline"] == created_at + timedelta(hours=1)
        (told,) = await place.desk.told(ticket_id)
        assert (told.action, told.sla_deadline) == ("retarget", promise["sla_deadline"])
        assert told.comment == "In the weather event Storm Zeynep: the targets of the class storm hold."
        assert (await place.desk.trail(ticket_id))[-1] == ("ticket.retarget", "Open", "Open")
        assert (await weather_events.get_weather_event(place.ctx, declared)).tickets == 1

    async def test_leaves_alone_what_is_outside_of_it(self, place: Place) -> None:
        await add_site(f"{place.site}-b", "tst")
        before = await place.incident()
        place.clock.advance(hours=2)
        during = await place.desk.open(site=place.site, priority="P1")
        cancelled = await place.incident(status="Cancelled")
        declared = await place.declare(hours=(1, 1))
        place.clock.advance(hours=2)
        after = await place.incident()
        for ticket_id in (before, during, cancelled, after):
            assert (await place.promise(ticket_id))["sla_class"] == "standard"
        assert (await weather_events.get_weather_event(place.ctx, declared)).tickets == 0

    async def test_counts_for_finished_work_too_and_wakes_nobody_for_it(self, place: Place) -> None:
        ticket_id = await place.incident(status="Closed")
        await place.declare(hours=(1, 1))
        ticket = await place.desk.ticket(ticket_id)
        assert (ticket["sla_class"], ticket["status"], ticket["alert_due_at"]) == ("storm", "Closed", None)

    async def test_takes_the_holds_and_the_priority_of_the_promise_into_account(self, place: Place) -> None:
        ticket_id = await place.incident()
        created_at = place.clock.now
        place.clock.advance(hours=1)
        await commands.set_priority(place.ctx, ticket_id, priority="P4")
        await commands.hold(place.ctx, ticket_id, reason="the road is closed")
        place.clock.advance(hours=5)
        await commands.resume(place.ctx, ticket_id)
        await place.declare(hours=(10, None))
        assert (await place.promise(ticket_id))["sla_deadline"] == created_at + timedelta(hours=12 + 5)

    async def test_of_many_incidents_is_finished_by_the_job(self, place: Place, monkeypatch: Any) -> None:
        monkeypatch.setattr(retargeting, "BATCH", 2)
        monkeypatch.setattr(retargeting, "AT_ONCE_MAX", 4)
        tickets = [await place.incident() for _ in range(9)]
        await place.declare(hours=(1, None))

        async def in_class() -> int:
            return [(await place.promise(each))["sla_class"] for each in tickets].count("storm")

        assert await in_class() == 4
        for _ in range(4):
            await settle_all(place.system)
        assert await in_class() == 9
        assert [len(await place.desk.told(each)) for each in tickets] == [1] * 9
        place.clock.advance(minutes=2)
        await settle_all(place.system)
        unsettled = await fetchval(
            "select count(*) from core.weather_event where site_id = $1 and not settled", place.site
        )
        assert unsettled == 0

    async def test_waits_for_a_module_that_is_not_there(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        ticket_id = await place.incident()
        with monkeypatch.context() as without:
            without.delitem(REGISTRY._types, "TST_TICKET_UPDATED")
            declared = await place.declare(hours=(1, None))
            place.clock.advance(minutes=2)
            await settle_all(place.system)
        assert (await place.promise(ticket_id))["sla_class"] == "standard"
        await settle_all(place.system)
        assert (await place.promise(ticket_id))["weather_event_id"] == declared


class TestWhileItGoesOn:
    async def test_incidents_are_opened_in_the_class(self, place: Place) -> None:
        declared = await place.declare(hours=(1, 2))
        ticket_id = await place.incident()
        promise = await place.promise(ticket_id)
        assert (promise["sla_class"], promise["weather_event_id"]) == ("storm", declared)
        assert promise["sla_deadline"] == place.clock.now + timedelta(hours=12)
        assert await place.desk.told(ticket_id) == [], "nobody was promised anything else before"
        other = await place.promise(await place.desk.open(site=place.site, priority="P1"))
        assert other["sla_class"] == "standard", "it is not an incident"
        place.clock.advance(hours=2)
        assert (await place.promise(await place.incident()))["sla_class"] == "standard", "it is over"

    async def test_a_ticket_of_a_process_that_did_not_know_yet_is_brought_in_by_the_job(self, place: Place) -> None:
        await place.declare(hours=(1, None))
        knows, TERMS._storms = TERMS._storms, {}
        ticket_id = await place.incident()
        TERMS._storms = knows
        assert (await place.promise(ticket_id))["sla_class"] == "standard"
        await settle_all(place.system)
        assert (await place.promise(ticket_id))["sla_class"] == "storm"


class TestEnded:
    async def test_puts_back_what_was_opened_later_and_keeps_the_rest(self, place: Place) -> None:
        declared = await place.declare(hours=(1, None))
        early = await place.incident()
        place.clock.advance(hours=1)
        end = place.clock.now
        place.clock.advance(hours=1)
        late = await place.incident()
        await weather_events.change(place.ctx, declared, ends_at=end)
        assert (await place.promise(early))["sla_class"] == "storm"
        promise = await place.promise(late)
        assert (promise["sla_class"], promise["sla_deadline"]) == ("standard", place.clock.now + timedelta(hours=4))
        (told,) = await place.desk.told(late)
        assert told.comment == "No longer in the weather event Storm Zeynep: the former targets hold again."


class TestWithdrawn:
    @pytest.mark.parametrize("when", ["afterwards", "before"])
    async def test_puts_back_exactly_what_was_promised(self, place: Place, when: str) -> None:
        plain = await place.incident()
        promise = await place.promise(plain)
        if when == "afterwards":
            ticket_id = await place.incident()
            declared = await place.declare(hours=(1, None))
        else:
            declared = await place.declare(hours=(1, None))
            ticket_id = await place.incident()
        assert (await place.promise(ticket_id))["sla_class"] == "storm"
        place.clock.advance(hours=1)
        await weather_events.withdraw(place.ctx, declared, reason="it was only wind")
        assert await place.promise(ticket_id) == promise
        assert await place.promise(plain) == promise

    async def test_leaves_an_incident_to_another_event_that_covers_it(self, place: Place) -> None:
        ticket_id = await place.incident()
        first = await place.declare(hours=(1, None))
        second = await place.declare(hours=(2, None))
        assert (await place.promise(ticket_id))["weather_event_id"] == first
        promise = await place.promise(ticket_id)
        await weather_events.withdraw(place.ctx, first, reason="declared twice")
        assert await place.promise(ticket_id) == promise | {"weather_event_id": second}
        assert (await place.desk.ticket(ticket_id))["sla_round"] == 2, "the promise is the same"
        await weather_events.withdraw(place.ctx, second, reason="it was only wind")
        assert (await place.promise(ticket_id))["sla_class"] == "standard"

    async def test_cannot_be_changed_any_more(self, place: Place) -> None:
        declared = await place.declare(hours=(1, None))
        await weather_events.withdraw(place.ctx, declared, reason="x")
        with pytest.raises(ForbiddenTransition):
            await weather_events.change(place.ctx, declared, name="Again")
        with pytest.raises(ForbiddenTransition):
            await weather_events.withdraw(place.ctx, declared, reason="x")


class TestAlerts:
    async def test_are_told_anew_for_the_targets_of_the_other_class(self, place: Place) -> None:
        await execute("update core.ticket set alert_due_at = null")
        ticket_id = await place.incident(status="Assigned")
        place.clock.advance(hours=4)
        await tell_alerts(place.system)
        declared = await place.declare(hours=(9, None))
        assert await tell_alerts(place.system) == 0, "twelve hours were promised now"
        place.clock.advance(hours=8)
        await tell_alerts(place.system)
        await weather_events.withdraw(place.ctx, declared, reason="x")
        await tell_alerts(place.system)
        told = [(kind, number) for kind, _, number in await place.desk.alerts(ticket_id)]
        assert told == [(kind, number) for number in (1, 2, 3) for kind in ("WARNING", "BREACHED")]


class TestRefused:
    async def test_at_a_site_of_others(self, place: Place) -> None:
        for site in ("north", "nowhere"):
            with pytest.raises(NotFound):
                await weather_events.declare(place.ctx, site_id=site, name="x", starts_at=place.clock.now, ends_at=None)

    async def test_with_a_period_that_cannot_be(self, place: Place) -> None:
        now = place.clock.now
        for starts_at, ends_at in ((now, now), (now - timedelta(days=401), None), (now + timedelta(days=32), None)):
            with pytest.raises(InvalidPayload):
                await weather_events.declare(
                    place.ctx, site_id=place.site, name="x", starts_at=starts_at, ends_at=ends_at
                )
