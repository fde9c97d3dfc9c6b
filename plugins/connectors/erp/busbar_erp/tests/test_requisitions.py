"""An approved requisition becomes one purchase requisition in SAP; one that is called off is flagged there."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from busbar.sdk import NothingToTell, Permanent, Retryable, execute
from busbar_erp import documents
from busbar_erp.tests.conftest import ENDPOINT, Office
from busbar_erp.tests.golden import (
    BUY_TICKET,
    CORRELATION_ID,
    REQUISITION_ID,
    event,
    requisition_approved,
    requisition_cancelled,
)


class TestApproval:
    async def test_makes_a_requisition_with_item_and_cost_center(self, office: Office) -> None:
        receipt = await office.deliver(requisition_approved())
        header, item = office.one("A_PurchaseRequisitionHeader"), office.one("A_PurchaseRequisitionItem")
        reference = documents.short_id_of(ENDPOINT, "requisition", REQUISITION_ID, prefix="BB")
        assert receipt.remote_id == header["PurchaseRequisition"] == item["PurchaseRequisition"] == "10000001"
        assert receipt.detail == f"Purchase requisition 10000001 was made, reference {reference}."
        assert header["PurchaseRequisitionType"] == "NB"
        assert header["PurReqnDescription"] == f"{BUY_TICKET} Fuse link NH2 250 A"[:39].rstrip() + "…"
        shown = {name: item[name] for name in ("Material", "BaseUnit", "Plant", "StorageLocation", "PurchasingGroup")}
        assert shown == {
            "Material": "FUSE-NH2-250A",
            "BaseUnit": "EA",
            "Plant": "1010",
            "StorageLocation": "0001",
            "PurchasingGroup": "001",
        }
        assert (item["RequestedQuantity"], item["PurReqnExternalReference"]) == (Decimal("12.000"), reference)
        assert item["DeliveryDate"] == datetime(2026, 12, 12, tzinfo=UTC)
        assigned = office.one("A_PurReqnAcctAssgmt")
        assert (item["AccountAssignmentCategory"], assigned["CostCenter"]) == ("K", "CC-100")
        assert assigned["Quantity"] == Decimal("12.000")

    async def test_a_long_text_is_cut_at_40_characters_and_stands_whole_in_the_item_text(self, office: Office) -> None:
        words = "Lüftersteuerung für Trafo Ω " * 4
        await office.deliver(requisition_approved(description=words))
        item = office.one("A_PurchaseRequisitionItem")
        # Code points are counted, and not bytes.
        assert item["PurchaseRequisitionItemText"] == "Lüftersteuerung für Trafo Ω Lüftersteue…"
        assert len(item["PurchaseRequisitionItemText"]) == 40
        text = office.one("A_PurchaseReqnItemText")["NoteDescription"].split("\n")
        assert text == [
            words.strip(),
            "Stock lay below the reorder level.",
            "fred: Take the long-life type",
        ]

    @pytest.mark.parametrize(
        ("told", "price", "per"),
        [("14.2550", "142.55", 10), ("0.0625", "6.25", 100), ("7", "7.00", 1), ("0.1230", "1.23", 10)],
    )
    async def test_a_price_keeps_all_its_digits_by_the_price_unit(
        self, office: Office, told: str, price: str, per: int
    ) -> None:
        await office.deliver(requisition_approved(unit_price=told))
        item = office.one("A_PurchaseRequisitionItem")
        assert (item["PurchaseRequisitionPrice"], item["PurReqnPriceQuantity"]) == (Decimal(price), per)
        assert item["PurchaseRequisitionPrice"] / item["PurReqnPriceQuantity"] == Decimal(told)

    async def test_without_price_or_cost_center_none_is_sent(self, office: Office) -> None:
        await office.deliver(requisition_approved(unit_price=None, cost_center_id=None))
        assert office.one("A_PurchaseRequisitionItem")["AccountAssignmentCategory"] == ""
        assert office.simulator.rows("A_PurReqnAcctAssgmt") == []

    async def test_the_correlation_id_goes_along_on_the_wire(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        [effect] = office.simulator.effects
        assert effect.request_correlation_id == CORRELATION_ID

    async def test_names_are_mapped_by_the_settings(self, office: Office) -> None:
        office.configure(
            materials={"Fuse-NH2-250A": "100-4711"},
            cost_centers={"cc-100": "17101301"},
            storage_locations={"Main warehouse": "101A"},
            units={"EA": "ST"},
        )
        await office.deliver(requisition_approved())
        item = office.one("A_PurchaseRequisitionItem")
        assert (item["Material"], item["StorageLocation"], item["BaseUnit"]) == ("100-4711", "101A", "ST")
        assert office.one("A_PurReqnAcctAssgmt")["CostCenter"] == "17101301"

    @pytest.mark.parametrize(
        ("facts", "sentence"),
        [
            ({"material_id": "X" * 41}, "material 'XXX.*setting materials"),
            ({"cost_center_id": "Maintenance north"}, "cost center 'Maintenance north'.*setting cost_centers"),
            ({"unit_of_measure": "bundle"}, "unit of measure 'bundle'.*setting units"),
            ({"quantity": "12345678901"}, "RequestedQuantity takes 13 digits"),
            ({"currency": "EURO-X"}, "PurReqnItemCurrency takes 5 characters"),
        ],
        ids=["material", "cost center", "unit", "quantity", "currency"],
    )
    async def test_what_does_not_fit_is_refused_by_name_before_it_is_sent(
        self, office: Office, facts: dict[str, str], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(requisition_approved(**facts))
        assert office.simulator.effects == []

    async def test_a_location_that_is_no_code_needs_the_settings(self, office: Office) -> None:
        office.configure(default_storage_location=None)
        with pytest.raises(Permanent, match=r"storage location 'Main warehouse'.*setting storage_locations"):
            await office.deliver(requisition_approved())


class TestOnce:
    async def test_the_same_event_twice_makes_one(self, office: Office) -> None:
        first = await office.deliver(requisition_approved())
        second = await office.deliver(requisition_approved(), remote_id=first.remote_id, number=2)
        assert (second.remote_id, second.duplicate) == (first.remote_id, True)
        assert office.writes() == ["POST A_PurchaseRequisitionHeader"]

    async def test_a_requisition_whose_answer_was_lost_is_found_and_not_repeated(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(requisition_approved())
        assert caught.value.uncertain
        # Even an attempt that calls itself the first makes no second document.
        receipt = await office.deliver(requisition_approved(), number=1)
        assert (receipt.duplicate, receipt.remote_id) == (True, "10000001")
        assert len(office.simulator.effects) == 1

    async def test_a_lost_mapping_table_makes_no_second_document(self, office: Office) -> None:
        first = await office.deliver(requisition_approved())
        await execute("delete from erp.document")
        second = await office.deliver(requisition_approved())
        assert (second.remote_id, second.duplicate) == (first.remote_id, True)

    async def test_two_installations_share_a_system_with_prefixes_of_their_own(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        await execute("delete from erp.document")
        office.configure(reference_prefix="BC")
        assert not (await office.deliver(requisition_approved())).duplicate
        assert len(office.simulator.rows("A_PurchaseRequisitionHeader")) == 2


class TestCalledOff:
    async def test_an_approved_requisition_is_flagged_for_deletion_in_one_change_set(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        receipt = await office.deliver(requisition_cancelled())
        assert receipt.detail == "Purchase requisition 10000001 was flagged for deletion."
        assert office.one("A_PurchaseRequisitionItem")["IsDeleted"] == "X"
        again = await office.deliver(requisition_cancelled(), number=2)
        assert again.duplicate
        assert office.writes() == ["POST A_PurchaseRequisitionHeader", "PATCH A_PurchaseRequisitionItem"]

    async def test_one_that_sap_never_had_is_not_told_and_not_made_later(self, office: Office) -> None:
        with pytest.raises(NothingToTell, match="never had this requisition"):
            await office.deliver(requisition_cancelled())
        with pytest.raises(NothingToTell, match="called off before SAP had it"):
            await office.deliver(requisition_approved())
        assert office.simulator.effects == []

    async def test_one_that_is_ordered_already_is_refused_with_saps_words(self, office: Office) -> None:
        await office.deliver(requisition_approved())
        key = {"PurchaseRequisition": "10000001", "PurchaseRequisitionItem": "00010"}
        office.simulator.change("A_PurchaseRequisitionItem", key, PurchasingDocument="4500000017")
        with pytest.raises(Permanent, match="06/115: Requisition item is already ordered with 4500000017"):
            await office.deliver(requisition_cancelled())


class TestMappedDocument:
    async def test_its_fields_replace_ours_one_by_one(self, office: Office) -> None:
        document = {
            "PurchasingGroup": "042",
            "PurchaseRequisitionType": "ZNB",
            "GLAccount": "65000000",
            "DeliveryDate": "2027-01-15",
            "PurchaseRequisitionPrice": "9.900",
            "RequisitionerName": None,
        }
        await office.deliver(requisition_approved(), document=document)
        item = office.one("A_PurchaseRequisitionItem")
        assert (item["PurchasingGroup"], item["RequisitionerName"]) == ("042", "")
        assert (item["DeliveryDate"], item["PurchaseRequisitionPrice"]) == (
            datetime(2027, 1, 15, tzinfo=UTC),
            Decimal("9.900"),
        )
        assert office.one("A_PurchaseRequisitionHeader")["PurchaseRequisitionType"] == "ZNB"
        assert office.one("A_PurReqnAcctAssgmt")["GLAccount"] == "65000000"

    @pytest.mark.parametrize(
        ("document", "sentence"),
        [
            ({"PurReqnExternalReference": "X"}, "PurReqnExternalReference, which Busbar keeps for itself"),
            ({"PurchaseRequisition": "1"}, "PurchaseRequisition, which Busbar keeps for itself"),
            ({"Colour": "red"}, "a field Colour, which A_PurchaseRequisitionItem"),
            ({"LastChangeDateTime": "2026-11-28"}, "which SAP lets nobody set"),
            ({"RequestedQuantity": 1.5}, "RequestedQuantity, a Decimal, of 1.5"),
            ({"PurchasingGroup": "0421"}, "PurchasingGroup takes 3 characters"),
        ],
    )
    async def test_says_which_field_cannot_be_sent(
        self, office: Office, document: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(requisition_approved(), document=document)
        assert office.simulator.effects == []


class TestEventsThatMeanNothingToSap:
    @pytest.mark.parametrize(
        "event_type",
        [
            "MM_TICKET_CREATED",
            "MM_TICKET_UPDATED",
            "MM_REQUISITION_CREATED",
            "MM_REQUISITION_REJECTED",
            "MM_REQUISITION_RECEIVED",
            "MM_REORDER_TRIGGERED",
            "MM_SOMETHING_NEW",
            "PM_COMPONENTS_CHANGED",
        ],
    )
    async def test_are_skipped_with_the_reason(self, office: Office, event_type: str) -> None:
        with pytest.raises(NothingToTell, match=r"\w \w"):
            await office.deliver(event(event_type, BUY_TICKET, {"ticket_id": BUY_TICKET}))
        assert office.simulator.requests == 0

    async def test_events_of_other_modules_go_to_the_dead_letters_with_their_name(self, office: Office) -> None:
        with pytest.raises(Permanent, match=r"cannot tell of FI_COST_POSTED.*narrow the route"):
            await office.deliver(event("FI_COST_POSTED", "cc-100", {}))

    async def test_data_that_cannot_be_read_is_refused(self, office: Office) -> None:
        with pytest.raises(Permanent, match="data of MM_STOCK_CHANGED cannot be read"):
            await office.deliver(event("MM_STOCK_CHANGED", "M", {"material_id": "M"}))
