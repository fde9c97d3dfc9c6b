"""What is composed is enough for another runner: over plain HTTP it has the same effects as Busbar's own deliveries."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from busbar.sdk import Attempt, Permanent
from busbar_crm.composing import compose
from busbar_crm.simulator import Options, Simulator, run_simulator
from busbar_crm.tests.conftest import MovableClock, ServiceOffice
from busbar_crm.tests.golden import Event, changed, golden, later, ticket_update
from busbar_crm.tests.peer import Peer

CREATED, UPDATED = golden("ticket_created"), golden("ticket_updated")
REQUESTED, COMPLETED = golden("approval_requested"), golden("approval_completed")
COST, WARNING = golden("cost_posted"), golden("budget_warning")
STORIES = {
    "in order": [CREATED, REQUESTED, UPDATED, COMPLETED, ticket_update(3, "Closed", comment="Approved.")],
    "each twice": [CREATED, CREATED, REQUESTED, REQUESTED, UPDATED, UPDATED, COMPLETED, COMPLETED],
    "late news last": [ticket_update(4, "In_Progress"), COMPLETED, UPDATED, REQUESTED, REQUESTED, CREATED, CREATED],
    "money only": [COST, golden("commitment_changed"), WARNING, later(COST, seconds=-600, event_id="an earlier one")],
    "a key that an address must encode": [changed(CREATED, ticket_id="FI/2026 7?")],
}
KEPT_APART = ("Id", "CaseNumber", "CreatedDate", "LastModifiedDate", "SystemModstamp", "ClosedDate", "attributes")


def composed(office: ServiceOffice, event: Event, **attempt: Any) -> dict[str, Any]:
    """What a peer is given; through JSON, as over the bus."""
    made = Attempt(number=1, first=True, delivery_id="1", correlation_id=event["correlationid"], event=event, **attempt)
    given: dict[str, Any] = json.loads(json.dumps(compose(office.settings, made)))
    return given


@pytest.fixture
async def another(clock: MovableClock, keys: tuple[str, str]) -> AsyncIterator[Simulator]:
    """A second organization, for the other runner."""
    options = Options(tls_port=None, public_key=keys[1], webhook_retry_delays_s=(0.0, 0.0))
    async with run_simulator(options, clock=clock) as running:
        yield running


@pytest.fixture
def peer(another: Simulator, session: aiohttp.ClientSession) -> Peer:
    credentials = another.credentials
    return Peer(session, another.url, client_id=credentials.client_id, client_secret=credentials.client_secret)


def _cases(simulator: Simulator, keys: list[str]) -> list[dict[str, Any]]:
    rows = [row for key in keys for row in simulator.cases(key)]
    return [{name: value for name, value in row.items() if name not in KEPT_APART} for row in rows]


def _effects(simulator: Simulator) -> list[tuple[str, ...]]:
    return [(effect.method, effect.object, effect.external_id) for effect in simulator.effects]


class TestAnotherRunner:
    @pytest.mark.parametrize("story", STORIES)
    async def test_has_the_same_effects(
        self, office: ServiceOffice, another: Simulator, peer: Peer, story: str
    ) -> None:
        keys: list[str] = []
        for event in STORIES[story]:
            receipt = await office.deliver(event)
            given = composed(office, event)
            outcome = await peer.carry_out(given)
            keys = [*dict.fromkeys([*keys, given["key"]])]
            [case] = another.cases(given["key"])
            assert outcome["remote_id"] == case["Id"]
            assert receipt.duplicate is ("already" in outcome["detail"])
        assert _effects(another) == _effects(office.simulator)
        assert _cases(another, keys) == _cases(office.simulator, keys)
        for key in keys:
            assert another.comments(key) == office.simulator.comments(key)


class TestWhatIsComposed:
    def test_holds_no_address_and_no_secret(self, office: ServiceOffice) -> None:
        text = json.dumps(composed(office, CREATED))
        assert office.settings.base_url not in text
        assert office.secrets["client_secret"] not in text

    def test_holds_what_the_routes_mapping_made(self, office: ServiceOffice) -> None:
        given = composed(office, CREATED, document={"Origin": "Grid", "Comments": "Please hurry."})
        assert given["create"]["Origin"] == "Grid"
        assert given["comment"]["body"]["CommentBody"].startswith("Please hurry.\n— Busbar, ")

    def test_is_refused_for_what_cannot_be_told(self, office: ServiceOffice) -> None:
        with pytest.raises(Permanent, match="cannot tell of PM_INCIDENT_UPDATED"):
            composed(office, {**CREATED, "type": "PM_INCIDENT_UPDATED"})
