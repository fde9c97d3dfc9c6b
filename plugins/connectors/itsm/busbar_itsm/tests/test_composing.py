"""What is composed is enough for another runner: over plain HTTP it has the same effects as Busbar's own deliveries."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest

from busbar.sdk import Attempt, NothingToTell, Permanent
from busbar_itsm.composing import compose
from busbar_itsm.simulator import Simulator, run_simulator
from busbar_itsm.tests.conftest import MovableClock, ServiceOffice
from busbar_itsm.tests.golden import CORRELATION_ID, TICKET, Event, changed, golden, later, ticket_update
from busbar_itsm.tests.peer import Peer

CREATED = golden("incident_ticket_created")
UPDATED = golden("incident_updated")
STORIES = {
    "in order": [CREATED, golden("ticket_assigned"), UPDATED, ticket_update(3, "Closed", comment="Repaired.")],
    "each twice": [CREATED, CREATED, golden("ticket_assigned"), golden("ticket_assigned"), UPDATED, UPDATED],
    "late news last": [ticket_update(4, "In_Progress"), later(UPDATED, seconds=60), UPDATED, CREATED],
    "held and resumed": [CREATED, ticket_update(2, "Assigned", on_hold=True), ticket_update(3, "Assigned", "resume")],
    "an order": [golden("order_ticket_created"), golden("order_completed")],
}
KEPT_APART = ("sys_id", "number", "sys_created_on", "sys_updated_on", "opened_at", "resolved_at", "closed_at")


def composed(office: ServiceOffice, event: Event, **attempt: Any) -> dict[str, Any]:
    """What a peer is given; through JSON, as over the bus."""
    made = Attempt(
        number=1,
        first=True,
        delivery_id="1",
        correlation_id=event["correlationid"],
        event=event,
        **attempt,
    )
    given: dict[str, Any] = json.loads(json.dumps(compose(office.settings, made)))
    return given


@pytest.fixture
async def another(clock: MovableClock) -> AsyncIterator[Simulator]:
    """A second instance, for the other runner."""
    async with run_simulator(clock=clock) as running:
        yield running


@pytest.fixture
def peer(another: Simulator, session: aiohttp.ClientSession) -> Peer:
    credentials = another.credentials
    return Peer(session, another.url, username=credentials.username, password=credentials.password)


def _rows(simulator: Simulator, events: Sequence[Event]) -> list[dict[str, str]]:
    tickets = dict.fromkeys(event["data"]["ticket_id"] for event in events)
    rows = [row for ticket_id in tickets for row in simulator.incidents(ticket_id)]
    return [{name: value for name, value in row.items() if name not in KEPT_APART} for row in rows]


def _effects(simulator: Simulator) -> list[tuple[str, ...]]:
    return [(effect.method, effect.correlation_id, effect.request_correlation_id) for effect in simulator.effects]


class TestAnotherRunner:
    @pytest.mark.parametrize("story", STORIES)
    async def test_has_the_same_effects(
        self, office: ServiceOffice, another: Simulator, peer: Peer, story: str
    ) -> None:
        known: dict[str, str] = {}
        for event in STORIES[story]:
            receipt = await office.deliver(event)
            ticket_id = event["data"]["ticket_id"]
            outcome = await peer.carry_out(composed(office, event, remote_id=known.get(ticket_id)))
            known[ticket_id] = outcome["remote_id"]
            assert outcome["marker"] == receipt.marker
        assert _effects(another) == _effects(office.simulator)
        assert _rows(another, STORIES[story]) == _rows(office.simulator, STORIES[story])

    async def test_finds_the_record_again_whose_id_was_cleared(
        self, office: ServiceOffice, another: Simulator, peer: Peer
    ) -> None:
        opened = await peer.carry_out(composed(office, CREATED))
        another.change(correlation_id=TICKET, fields={"correlation_id": ""})
        again = await peer.carry_out(composed(office, ticket_update(2, "Assigned"), remote_id=opened["remote_id"]))
        assert again["remote_id"] == opened["remote_id"]
        assert len(another.incidents(TICKET)) == 1


class TestWhatIsComposed:
    def test_holds_no_address_and_no_secret(self, office: ServiceOffice) -> None:
        text = json.dumps(composed(office, CREATED))
        assert office.settings.base_url not in text
        assert office.secrets["password"] not in text

    def test_holds_what_the_routes_mapping_made(self, office: ServiceOffice) -> None:
        given = composed(office, CREATED, document={"category": "network", "short_description": None})
        assert given["create"]["body"]["category"] == "network"
        assert "short_description" not in given["create"]["body"]
        assert given["create"]["body"]["correlation_display"].endswith(CORRELATION_ID)

    def test_is_refused_for_what_cannot_be_told_or_asked(self, office: ServiceOffice) -> None:
        with pytest.raises(NothingToTell):
            composed(office, {**CREATED, "type": "PM_ORDER_COMPONENTS_CHANGED"})
        with pytest.raises(Permanent, match="cannot be asked of ServiceNow"):
            composed(office, changed(CREATED, ticket_id="TKT^1"))
        with pytest.raises(Permanent, match="no sys_id"):
            composed(office, CREATED, remote_id="../incident")
