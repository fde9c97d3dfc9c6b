"""What is composed is enough for another runner: over plain HTTP it has the same effects as Busbar's own deliveries."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar.sdk import Attempt, DeliveryError, NothingToTell, Permanent, fetchval
from busbar_erp import documents
from busbar_erp.composing import compose, prepare
from busbar_erp.simulator import Simulator, run_simulator
from busbar_erp.tests.conftest import ENDPOINT, MovableClock, Office, new_session
from busbar_erp.tests.golden import (
    REQUISITION_ID,
    TRANSACTION_ID,
    Event,
    changed,
    incident_opened,
    requisition_approved,
    requisition_cancelled,
    stock_changed,
)
from busbar_erp.tests.peer import Peer

RECEIPT = stock_changed("receipt", "12.000", note="Delivery note 4711")
ISSUE = stock_changed("issue", "-2.500", cost_center_id="cc-100", transaction_id="another")
TRANSFER = stock_changed("transfer", "-4.000", to_storage_location="Van 4", transaction_id="a third")
REVERSAL = stock_changed("issue", "-12.000", transaction_id="back", reverses_transaction_id=TRANSACTION_ID)
STORIES = {
    "a requisition": [requisition_approved(), requisition_approved(), requisition_cancelled(), requisition_cancelled()],
    "a requisition that SAP never had": [requisition_cancelled(), requisition_approved()],
    "a small price": [requisition_approved(unit_price="0.1234", cost_center_id=None, description="O'Neill's 50 % +")],
    "stock": [RECEIPT, RECEIPT, ISSUE, TRANSFER, stock_changed("adjustment", "1.000", transaction_id="counted")],
    "taken back": [RECEIPT, REVERSAL, REVERSAL],
    "taken back before it came": [REVERSAL],
}
SETTINGS = {"storage_locations": {"Main warehouse": "0001", "Van 4": "0002"}, "sap_client": "100"}


def attempt_at(event: Event, **attempt: Any) -> Attempt:
    return Attempt(number=1, first=True, delivery_id="1", correlation_id=event["correlationid"], event=event, **attempt)


async def composed(office: Office, event: Event, **attempt: Any) -> dict[str, Any]:
    """What a peer is given; through JSON, as over the bus."""
    made = attempt_at(event, **attempt)
    known = json.loads(json.dumps(await prepare(office.endpoint, made)))
    given: dict[str, Any] = json.loads(json.dumps(compose(office.settings, msgspec.structs.replace(made, known=known))))
    return given


@pytest.fixture
async def another(clock: MovableClock) -> AsyncIterator[Simulator]:
    """A second system, for the other runner."""
    async with run_simulator(clock=clock) as running:
        yield running


@pytest.fixture
async def jar() -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the peer's own, for the cookie of the CSRF token."""
    async with new_session() as opened:
        yield opened


@pytest.fixture
def peer(another: Simulator, jar: aiohttp.ClientSession) -> Peer:
    return Peer(jar, another.url, username=another.credentials.username, password=another.credentials.password)


async def _by_peer(peer: Peer, office: Office, event: Event) -> str:
    try:
        outcome = await peer.carry_out(await composed(office, event))
    except DeliveryError as error:
        return f"{type(error).__name__}: {error.detail}"
    return str(outcome.get("remote_id") or {"skipped": "NothingToTell", "dead": "Permanent"}[outcome["state"]])


async def _by_busbar(office: Office, event: Event) -> str:
    try:
        return (await office.deliver(event)).remote_id
    except DeliveryError as error:
        return f"{type(error).__name__}: {error.detail}"


def _effects(simulator: Simulator) -> list[tuple[str, ...]]:
    return [(effect.function, effect.entity_set, effect.key, effect.reference) for effect in simulator.effects]


def _rows(simulator: Simulator) -> dict[str, list[dict[str, Any]]]:
    names = ("A_PurchaseRequisitionHeader", "A_PurchaseRequisitionItem")
    names += ("A_PurReqnAcctAssgmt", "A_PurchaseReqnItemText")
    names += ("A_MaterialDocumentHeader", "A_MaterialDocumentItem")
    return {name: [dict(row) for row in simulator.rows(name)] for name in names}


class TestAnotherRunner:
    @pytest.mark.parametrize("story", STORIES)
    async def test_has_the_same_effects(self, office: Office, another: Simulator, peer: Peer, story: str) -> None:
        office.configure(**SETTINGS)
        ours = [await _by_busbar(office, event) for event in STORIES[story]]
        # The other runner begins with a mapping table that knows nothing, as Busbar did.
        await fetchval("with gone as (delete from erp.document returning 1) select count(*) from gone")
        theirs = [await _by_peer(peer, office, event) for event in STORIES[story]]
        for told, other in zip(ours, theirs, strict=True):
            assert told.startswith(other)
        assert _effects(another) == _effects(office.simulator)
        assert _rows(another) == _rows(office.simulator)

    async def test_receives_against_the_purchase_order_that_has_come_back(
        self, office: Office, another: Simulator, peer: Peer
    ) -> None:
        await peer.carry_out(await composed(office, requisition_approved()))
        document = await documents.find(ENDPOINT, "requisition", REQUISITION_ID)
        assert document is not None, "what SAP says of the requisition could not be understood"
        await documents.learn_purchase_order(document, "4500000017", "00020")
        await peer.carry_out(await composed(office, changed(RECEIPT, requisition_id=REQUISITION_ID)))
        [item] = another.rows("A_MaterialDocumentItem")
        assert (item["GoodsMovementType"], item["PurchaseOrder"]) == ("101", "4500000017")


class TestWhatIsComposed:
    async def test_holds_no_address_and_no_secret(self, office: Office) -> None:
        text = json.dumps(await composed(office, requisition_approved()))
        assert office.settings.base_url not in text
        assert office.secrets["password"] not in text

    async def test_holds_what_the_routes_mapping_made(self, office: Office) -> None:
        given = await composed(office, requisition_approved(), document={"PurchasingGroup": "007"})
        [item] = given["create"]["body"]["to_PurchaseReqnItem"]["results"]
        assert item["PurchasingGroup"] == "007"

    async def test_is_refused_for_maintenance_with_the_way_out(self, office: Office) -> None:
        with pytest.raises(
            Permanent, match=r"maintenance needs Busbar's own runner\. Route these events to an endpoint"
        ):
            await composed(office, incident_opened())

    async def test_is_nothing_for_what_means_nothing_to_sap(self, office: Office) -> None:
        with pytest.raises(NothingToTell, match="told when it is approved"):
            await composed(office, {**requisition_approved(), "type": "MM_REQUISITION_CREATED"})
        await composed(office, requisition_cancelled())
        with pytest.raises(NothingToTell, match="called off before SAP had it"):
            await composed(office, requisition_approved())

    async def test_cannot_be_sent_when_a_value_does_not_fit(self, office: Office) -> None:
        with pytest.raises(Permanent, match="This cannot be sent to SAP: RequestedQuantity takes 13 digits"):
            await composed(office, requisition_approved(quantity="0.00001"))
