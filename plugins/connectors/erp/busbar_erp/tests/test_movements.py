"""Each stock transaction is one material document, with the movement type that it means."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from busbar.sdk import NothingToTell, Permanent, Retryable, execute
from busbar_erp import documents
from busbar_erp.simulator.movements import stock_of
from busbar_erp.tests.conftest import ENDPOINT, Office
from busbar_erp.tests.golden import (
    ORDER_TICKET,
    REQUISITION_ID,
    TRANSACTION_ID,
    changed,
    order_opened,
    requisition_approved,
    stock_changed,
)

RECEIPT = stock_changed("receipt", "12.000")
ISSUE = stock_changed("issue", "-2.500", cost_center_id="cc-100")


class TestMovementTypes:
    async def test_a_receipt_without_purchase_order_is_501(self, office: Office) -> None:
        receipt = await office.deliver(RECEIPT)
        header, item = office.one("A_MaterialDocumentHeader"), office.one("A_MaterialDocumentItem")
        assert receipt.remote_id == "2026/4900000001"
        assert receipt.detail == "Material document 2026/4900000001 was posted with movement type 501."
        assert (header["GoodsMovementCode"], item["GoodsMovementType"]) == ("05", "501")
        assert header["ReferenceDocument"] == documents.short_id_of(ENDPOINT, "movement", TRANSACTION_ID, prefix="BB")
        assert len(header["ReferenceDocument"]) == 16
        assert header["MaterialDocumentHeaderText"] == "Busbar mia"
        assert (item["QuantityInEntryUnit"], item["EntryUnit"], item["Plant"]) == (Decimal("12.000"), "EA", "1010")

    async def test_a_receipt_for_what_sap_has_ordered_is_101(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        document = await documents.find(ENDPOINT, "requisition", REQUISITION_ID)
        assert document is not None
        await documents.learn_purchase_order(document, "4500000017", "00020")
        await office.deliver(changed(RECEIPT, requisition_id=REQUISITION_ID))
        item = office.one("A_MaterialDocumentItem")
        shown = [item[name] for name in ("GoodsMovementType", "PurchaseOrder", "PurchaseOrderItem")]
        assert shown == ["101", "4500000017", "00020"]
        assert (item["GoodsMovementRefDocType"], office.one("A_MaterialDocumentHeader")["GoodsMovementCode"]) == (
            "B",
            "01",
        )

    async def test_a_receipt_for_what_sap_has_not_ordered_yet_is_501(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        await office.deliver(changed(RECEIPT, requisition_id=REQUISITION_ID))
        assert office.one("A_MaterialDocumentItem")["GoodsMovementType"] == "501"

    async def test_an_issue_to_a_cost_center_is_201(self, office: Office) -> None:
        await office.deliver(ISSUE)
        item = office.one("A_MaterialDocumentItem")
        assert (item["GoodsMovementType"], item["CostCenter"]) == ("201", "CC-100")
        assert item["QuantityInEntryUnit"] == Decimal("2.500")

    async def test_an_issue_to_an_order_that_sap_has_is_261(self, office: Office) -> None:
        await office.deliver(order_opened())
        await office.deliver(changed(ISSUE, ticket_id=ORDER_TICKET, cost_center_id=None))
        item = office.one("A_MaterialDocumentItem")
        assert (item["GoodsMovementType"], item["ManufacturingOrder"]) == ("261", "4000001")

    async def test_an_issue_to_an_order_that_sap_does_not_have_is_charged_to_a_cost_center(
        self, office: Office
    ) -> None:
        await office.deliver(changed(ISSUE, ticket_id=ORDER_TICKET, cost_center_id=None))
        item = office.one("A_MaterialDocumentItem")
        assert (item["GoodsMovementType"], item["CostCenter"]) == ("201", "CC-100")

    async def test_without_any_cost_center_it_names_the_setting(self, office: Office) -> None:
        office.configure(default_cost_center=None)
        with pytest.raises(Permanent, match="enter default_cost_center in the settings"):
            await office.deliver(changed(ISSUE, cost_center_id=None))

    async def test_a_transfer_is_311_from_place_to_place(self, office: Office) -> None:
        office.configure(storage_locations={"Main warehouse": "0001", "Van 4": "0004"})
        await office.deliver(stock_changed("transfer", "3", to_storage_location="Van 4"))
        item = office.one("A_MaterialDocumentItem")
        assert [item[n] for n in ("GoodsMovementType", "StorageLocation", "IssuingOrReceivingStorageLoc")] == [
            "311",
            "0001",
            "0004",
        ]
        store = office.simulator.api.store
        assert stock_of(store, "FUSE-NH2-250A", "1010", "0004") == Decimal(3)
        assert stock_of(store, "FUSE-NH2-250A", "1010", "0001") == Decimal(-3)

    async def test_a_transfer_between_places_that_are_one_for_sap_is_not_told(self, office: Office) -> None:
        with pytest.raises(NothingToTell, match="Both locations are 0001 in SAP"):
            await office.deliver(stock_changed("transfer", "3", to_storage_location="Van 4"))
        assert office.simulator.effects == []

    @pytest.mark.parametrize(("quantity", "kind"), [("1.000", "701"), ("-1.000", "702")])
    async def test_a_count_difference_is_701_or_702(self, office: Office, quantity: str, kind: str) -> None:
        await office.deliver(stock_changed("adjustment", quantity))
        item = office.one("A_MaterialDocumentItem")
        assert (item["GoodsMovementType"], item["QuantityInEntryUnit"]) == (kind, Decimal(1))

    async def test_the_posting_date_is_the_calendar_day_of_the_utility(self, office: Office) -> None:
        # Half past eleven at night in UTC is the next day in Berlin.
        office.configure(time_zone="Europe/Berlin")
        await office.deliver(RECEIPT)
        assert office.one("A_MaterialDocumentHeader")["PostingDate"] == datetime(2026, 11, 29, tzinfo=UTC)

    async def test_a_blocked_cost_center_is_refused_with_saps_words(self, office: Office) -> None:
        with pytest.raises(Permanent, match="KI/101: Cost center CC-BLOCKED is blocked"):
            await office.deliver(changed(ISSUE, cost_center_id="cc-blocked"))


class TestOnce:
    async def test_transactions_of_one_material_have_a_document_each(self, office: Office) -> None:
        first = await office.deliver(RECEIPT)
        # The core knows one number for a material: the latest. The mapping table knows each.
        second = await office.deliver(
            changed(ISSUE, transaction_id="019ab0c4-7d2e-7000-8000-0000000000b2"), remote_id=first.remote_id
        )
        again = await office.deliver(RECEIPT, remote_id=second.remote_id, number=2)
        assert (first.remote_id, second.remote_id) == ("2026/4900000001", "2026/4900000002")
        assert (again.remote_id, again.duplicate) == (first.remote_id, True)
        assert stock_of(office.simulator.api.store, "FUSE-NH2-250A", "1010", "0001") == Decimal("9.5")

    async def test_a_posting_whose_answer_was_lost_is_found_and_not_repeated(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(ISSUE)
        assert caught.value.uncertain
        receipt = await office.deliver(ISSUE, number=2)
        assert receipt.duplicate
        assert office.writes() == ["POST A_MaterialDocumentHeader"]
        assert receipt.remote_id == "2026/4900000001"


class TestReversal:
    BACK = changed(
        ISSUE,
        transaction_id="019ab0c4-7d2e-7000-8000-0000000000b3",
        quantity_change="2.500",
        reverses_transaction_id=TRANSACTION_ID,
    )

    async def test_a_transaction_that_is_taken_back_is_cancelled_by_saps_function(self, office: Office) -> None:
        await office.deliver(ISSUE)
        receipt = await office.deliver(self.BACK)
        assert receipt.detail == "Material document 2026/4900000001 was cancelled by 2026/4900000002."
        [issue, back] = office.simulator.rows("A_MaterialDocumentItem")
        assert (issue["GoodsMovementIsCancelled"], back["GoodsMovementType"]) == (True, "202")
        assert stock_of(office.simulator.api.store, "FUSE-NH2-250A", "1010", "0001") == 0

    async def test_a_cancellation_whose_answer_was_lost_is_not_repeated(self, office: Office) -> None:
        await office.deliver(ISSUE)
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable):
            await office.deliver(self.BACK)
        receipt = await office.deliver(self.BACK, number=2)
        assert (receipt.duplicate, receipt.remote_id) == (True, "2026/4900000002")
        assert office.writes() == ["POST A_MaterialDocumentHeader", "Cancel"]

    async def test_the_original_is_still_found_by_its_reference_afterwards(self, office: Office) -> None:
        await office.deliver(ISSUE)
        await office.deliver(self.BACK)
        await execute("update erp.document set remote_id = null")
        assert (await office.deliver(ISSUE, number=2)).remote_id == "2026/4900000001"

    async def test_what_sap_never_had_cannot_be_taken_back(self, office: Office) -> None:
        with pytest.raises(Permanent, match="replay that one first"):
            await office.deliver(self.BACK)
