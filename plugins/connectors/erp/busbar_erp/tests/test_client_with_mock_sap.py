"""The connector and its client against `mock-sap`, an SAP double that we did not write, as a process of its own.

It has no maintenance, requisitions, stock or cost centers; its material documents are receipts with fewer fields, which
a route's mapping leaves out. Change sets and etags are shown at its sales orders.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar.sdk import AuthExpired, Permanent, Retryable, execute
from busbar_erp import answers, documents
from busbar_erp.auth import BasicAuth, CsrfToken
from busbar_erp.client import Change, ODataClient
from busbar_erp.model import MATERIAL_DOCUMENTS, EntitySet, Field, Service, services
from busbar_erp.tests.conftest import ENDPOINT, Office, new_session
from busbar_erp.tests.golden import REQUISITION_ID, requisition_approved, stock_changed

COMMAND = Path(sys.executable).with_name("mock-sap")
SALES = "API_SALES_ORDER_SRV"
LEFT_OUT = dict.fromkeys(
    ("GoodsMovementCode", "MaterialDocumentHeaderText", "GoodsMovementRefDocType", "StorageLocation")
)
"""What mock-sap's material documents do not have."""


class MockSap:
    """The running process."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.client = ODataClient(
            session, url, BasicAuth("busbar", "word"), csrf=CsrfToken(), sap_client="100", timeout_s=5
        )

    async def fault(self, scenario: str, *, method: str = "POST", match: str = "A_MaterialDocumentHeader") -> None:
        """Let one request fail so."""
        rule = {"match": match, "method": method, "scenario": scenario, "count": 1}
        async with self.session.post(f"{self.url}/_mock/faults", json=rule) as response:
            assert response.status < 300, await response.text()


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (str(COMMAND), "--port", str(port), "--auth", "busbar:word", "--require-if-match", "--quiet")
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{url}/_mock/health"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        running.terminate()
        await running.wait()


@pytest.fixture
async def sap(process: str) -> AsyncIterator[MockSap]:
    async with new_session() as session:
        yield MockSap(process, session)


@pytest.fixture
def sales() -> Iterator[EntitySet]:
    """Sales orders in the catalog, for the time of a test."""
    fields = [
        Field(name="SalesOrder", type="String", length=10, key=True),
        Field(name="ShippingCondition", type="String"),
    ]
    orders = EntitySet(service=SALES, name="A_SalesOrder", fields={one.name: one for one in fields}, navigations={})
    services()[SALES] = Service(name=SALES, sets={"A_SalesOrder": orders}, functions={})
    yield orders
    del services()[SALES]


@pytest.fixture
async def receiving(office: Office, sap: MockSap) -> Office:
    """An endpoint at mock-sap, with a requisition of which a purchase order is known."""
    await office.deliver(requisition_approved())
    document = await documents.find(ENDPOINT, "requisition", REQUISITION_ID)
    assert document is not None
    await documents.learn_purchase_order(document, "4500000101", "00010")
    office.settings = msgspec.structs.replace(office.settings, base_url=sap.url, username="busbar")
    office.secrets["password"] = "word"
    return office


def receipt_of(transaction_id: str) -> dict[str, Any]:
    return stock_changed("receipt", "2.500", requisition_id=REQUISITION_ID, transaction_id=transaction_id)


async def posted(sap: MockSap, transaction_id: str) -> list[answers.Entity]:
    """The material documents of a transaction."""
    short_id = documents.short_id_of(ENDPOINT, "movement", transaction_id, prefix="BB")
    return await sap.client.find(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", {"ReferenceDocument": short_id})


class TestGoodsReceipt:
    async def test_is_posted_against_the_purchase_order_and_found_again(self, receiving: Office, sap: MockSap) -> None:
        receipt = await receiving.deliver(receipt_of("T-1"), document=LEFT_OUT)
        [header] = await posted(sap, "T-1")
        assert receipt.remote_id == f"{header['MaterialDocumentYear']}/{header['MaterialDocument']}"
        key = {name: header[name] for name in ("MaterialDocumentYear", "MaterialDocument")}
        [item] = await sap.client.find(MATERIAL_DOCUMENTS, "A_MaterialDocumentItem", key)
        shown = [item[name] for name in ("GoodsMovementType", "PurchaseOrder", "QuantityInEntryUnit", "EntryUnit")]
        assert shown == ["101", "4500000101", "2.500", "EA"]
        assert header["PostingDate"] == "/Date(1795824000000)/"

    async def test_is_posted_once_however_often_it_is_told(self, receiving: Office, sap: MockSap) -> None:
        await receiving.deliver(receipt_of("T-2"), document=LEFT_OUT)
        await execute("update erp.document set remote_id = null where kind = 'movement'")
        again = await receiving.deliver(receipt_of("T-2"), document=LEFT_OUT, number=2)
        assert again.duplicate
        assert len(await posted(sap, "T-2")) == 1

    async def test_a_field_that_the_system_does_not_have_is_refused_by_name(self, receiving: Office) -> None:
        with pytest.raises(Permanent, match="Property 'GoodsMovementCode' does not exist"):
            await receiving.deliver(receipt_of("T-3"))


class TestFailures:
    @pytest.mark.parametrize(
        ("scenario", "wait_s", "uncertain"), [("lock", 5.0, False), ("busy", 30.0, False), ("error", None, True)]
    )
    async def test_trouble_is_retried_and_ends_in_one_document(
        self, receiving: Office, sap: MockSap, scenario: str, wait_s: float | None, uncertain: bool
    ) -> None:
        await sap.fault(scenario)
        transaction_id = f"T-{scenario}"
        with pytest.raises(Retryable) as caught:
            await receiving.deliver(receipt_of(transaction_id), document=LEFT_OUT)
        assert (caught.value.after_s, caught.value.uncertain) == (wait_s, uncertain)
        await receiving.deliver(receipt_of(transaction_id), document=LEFT_OUT, number=2)
        assert len(await posted(sap, transaction_id)) == 1

    async def test_an_expired_token_is_renewed_on_the_way(self, receiving: Office, sap: MockSap) -> None:
        await receiving.deliver(receipt_of("T-4"), document=LEFT_OUT)
        await sap.fault("csrf")
        await receiving.deliver(receipt_of("T-5"), document=LEFT_OUT)
        assert len(await posted(sap, "T-5")) == 1

    async def test_missing_authorization_and_credentials_are_told_apart(self, receiving: Office, sap: MockSap) -> None:
        await sap.fault("forbidden")
        with pytest.raises(Permanent, match="Give the user the authorization"):
            await receiving.deliver(receipt_of("T-6"), document=LEFT_OUT)
        receiving.secrets["password"] = "wrong"
        with pytest.raises(AuthExpired, match="Enter new credentials"):
            await receiving.deliver(receipt_of("T-6"), document=LEFT_OUT)


class TestVersionsAndChangeSets:
    async def test_a_change_to_an_old_version_is_stale(self, sap: MockSap, sales: EntitySet) -> None:
        [order] = await sap.client.find(SALES, "A_SalesOrder", top=1)
        key, etag = {"SalesOrder": order["SalesOrder"]}, answers.etag_of(order)
        await sap.client.update(SALES, "A_SalesOrder", key, {"ShippingCondition": "02"}, etag=etag)
        with pytest.raises(answers.Stale):
            await sap.client.update(SALES, "A_SalesOrder", key, {"ShippingCondition": "03"}, etag='W/"old"')
        with pytest.raises(answers.Refused, match="428"):
            await sap.client.update(SALES, "A_SalesOrder", key, {"ShippingCondition": "03"}, etag=None)

    async def test_a_change_set_is_carried_out_whole_or_not_at_all(self, sap: MockSap, sales: EntitySet) -> None:
        first, second = await sap.client.find(SALES, "A_SalesOrder", top=2, skip=2)

        def change(order: answers.Entity, etag: str | None) -> Change:
            key = {"SalesOrder": order["SalesOrder"]}
            return Change(entity_set="A_SalesOrder", key=key, fields={"ShippingCondition": "77"}, etag=etag)

        async def conditions() -> list[str]:
            read = [
                await sap.client.get(SALES, "A_SalesOrder", {"SalesOrder": one["SalesOrder"]})
                for one in (first, second)
            ]
            return [str(one["ShippingCondition"]) for one in read if one]

        before = await conditions()
        with pytest.raises(answers.Stale):
            await sap.client.change_all(SALES, [change(first, answers.etag_of(first)), change(second, 'W/"old"')])
        assert await conditions() == before
        await sap.client.change_all(SALES, [change(one, answers.etag_of(one)) for one in (first, second)])
        assert await conditions() == ["77", "77"]
