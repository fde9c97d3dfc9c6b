"""Delivery against the simulator: one Case per ticket, told everything once, and never set back."""

from html import escape
from typing import Any

import pytest

from busbar.sdk import Permanent
from busbar_crm.tests.conftest import ServiceOffice
from busbar_crm.tests.golden import (
    CORRELATION_ID,
    ORDER_TICKET,
    TICKET,
    changed,
    golden,
    later,
    ticket_update,
)

CREATED = golden("ticket_created")
UPDATED = golden("ticket_updated")
REQUESTED = golden("approval_requested")
COMPLETED = golden("approval_completed")
COST = golden("cost_posted")
COMMITMENT = golden("commitment_changed")
WARNING = golden("budget_warning")


class TestOpening:
    async def test_a_new_ticket_becomes_a_case(self, office: ServiceOffice) -> None:
        receipt = await office.deliver(CREATED)
        row = office.case()
        assert (receipt.remote_id, receipt.duplicate, receipt.detail) == (row["Id"], False, "A Case was opened.")
        assert receipt.remote_url == f"{office.simulator.url}/lightning/r/Case/{row['Id']}/view"
        shown = {name: row[name] for name in ("Subject", "Priority", "Status", "Busbar_Marker__c")}
        assert shown == {
            "Subject": "Approve 1,234.50 EUR for CC-4100",
            "Priority": "Medium",
            "Status": "New",
            "Busbar_Marker__c": f"Busbar v1 20261123T092000.250000Z - {CORRELATION_ID}",
        }
        assert row["Description"] == (
            "Requisition of 10 gasket sets.\n\n"
            "Amount: 1,234.50 EUR\n"
            "Cost center: CC-4100\n"
            "Justification: Gasket set below its reorder level\n"
            "To be approved by: fiona, role:CFO\n"
            "Requested by: mara\n"
            "For ticket: TKT-MM-20261123-0001"
        )

    async def test_the_correlation_id_goes_along_on_the_wire(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        [effect] = office.simulator.effects
        assert effect.request_correlation_id == CORRELATION_ID

    async def test_costs_a_login_once_and_two_requests(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        assert office.simulator.requests == 1 + 2
        await office.deliver(UPDATED)
        assert office.simulator.requests == 1 + 2 + 2

    async def test_the_owner_comes_from_the_settings_and_is_set_once(self, office: ServiceOffice) -> None:
        office.configure(owner_id="00GBB0000000001MAA")
        await office.deliver(CREATED)
        assert office.case()["OwnerId"] == "00GBB0000000001MAA"
        office.simulator.change(external_id=TICKET, fields={"OwnerId": "00GBB0000000002MAA"})
        await office.deliver(UPDATED)
        assert office.case()["OwnerId"] == "00GBB0000000002MAA"

    @pytest.mark.parametrize(("priority", "remote"), [("P1", "High"), ("P2", "High"), ("P3", "Medium"), ("P4", "Low")])
    async def test_each_priority_has_its_own(self, office: ServiceOffice, priority: str, remote: str) -> None:
        await office.deliver(changed(CREATED, priority=priority))
        assert office.case()["Priority"] == remote

    async def test_a_long_title_is_cut_with_a_sign_of_it(self, office: ServiceOffice) -> None:
        await office.deliver(changed(CREATED, title="x" * 300))
        assert office.case()["Subject"] == "x" * 254 + "…"

    async def test_what_the_description_says_already_is_not_said_twice(self, office: ServiceOffice) -> None:
        await office.deliver(changed(CREATED, description="Gasket set below its reorder level"))
        assert "Justification" not in office.case()["Description"]

    async def test_a_long_description_keeps_the_facts(self, office: ServiceOffice) -> None:
        await office.deliver(changed(CREATED, description="ä" * 40_000))
        description = office.case()["Description"]
        assert len(description) == 32_000
        assert "ä…\n\nAmount: 1,234.50 EUR" in description


class TestLifeOfATicket:
    async def test_each_status_has_its_own(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        statuses = []
        moves = [("Assigned", "move"), ("In_Progress", "move"), ("Closed", "move"), ("In_Progress", "reopen")]
        for version, (status, action) in enumerate([*moves, ("Cancelled", "cancel")], start=2):
            await office.deliver(ticket_update(version, status, action))
            statuses.append(office.case()["Status"])
        assert statuses == ["Working", "Working", "Closed", "Working", "Closed"]

    async def test_the_organizations_own_words_for_a_status_are_used(self, office: ServiceOffice) -> None:
        office.configure(status_on_hold="Escalated")
        await office.deliver(CREATED)
        await office.deliver(ticket_update(2, "Assigned", "hold", on_hold=True, comment="Waiting for figures"))
        assert office.case()["Status"] == "Escalated"
        assert office.comments() == ["Put on hold in Busbar.\nWaiting for figures"]

    async def test_who_has_it_and_why_stands_in_a_comment(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        receipt = await office.deliver(UPDATED)
        assert receipt.detail == "Case 00001001 was changed: Subject, Priority, Status, a comment."
        assert office.simulator.comments(TICKET) == [
            "Assigned to fiona in Busbar.\nPlease look today\n"
            "— Busbar, 2026-11-23 10:05 UTC, 019ab0c4-7d2e-7000-8000-000000000004"
        ]

    async def test_the_steps_of_an_approval_are_told(self, office: ServiceOffice) -> None:
        for event in (CREATED, REQUESTED, COMPLETED):
            await office.deliver(event)
        assert office.comments() == [
            "Approval of 1,234.50 EUR was requested.",
            "The approval of 1,234.50 EUR was approved by fiona.\nWithin budget",
        ]
        assert office.case()["Status"] == "New"

    @pytest.mark.parametrize(
        ("event_type", "data", "sentence"),
        [
            ("CHANGED", {}, "The request for approval was changed: it is now for one of 1,234.50 EUR."),
            (
                "ADVANCED",
                {"decided_by": "fiona", "on_behalf_of": "frank"},
                "One level of the approval of 1,234.50 EUR was decided by fiona for frank; level 1 is asked.",
            ),
            (
                "REMINDED",
                {"waiting_for": "role:CFO", "waiting_h": 30},
                "The approval of 1,234.50 EUR still waits for role:CFO; a reminder was sent.",
            ),
        ],
    )
    async def test_every_step_has_its_sentence(
        self, office: ServiceOffice, event_type: str, data: dict[str, Any], sentence: str
    ) -> None:
        await office.deliver({**changed(REQUESTED, **data), "type": f"FI_APPROVAL_{event_type}"})
        assert office.comments() == [sentence]
        assert office.case()["Subject"] == "Approval of 1,234.50 EUR for cost center CC-4100"

    @pytest.mark.parametrize("letter", ["a", "ä", "<", "'"])
    async def test_a_long_comment_is_cut_to_the_bytes_that_fit(self, office: ServiceOffice, letter: str) -> None:
        await office.deliver(CREATED)
        await office.deliver(changed(UPDATED, comment=letter * 5000))
        [comment] = office.simulator.comments(TICKET)
        assert 3990 <= len(escape(comment).encode()) <= 4000
        assert comment.endswith("000000000004")

    async def test_comments_are_shown_to_customers_only_if_the_settings_say_so(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(UPDATED)
        office.configure(comments_public=True)
        await office.deliver(ticket_update(3, "In_Progress", comment="Nearly done"))
        table = office.simulator.api.records.tables["CaseComment"]
        assert [row["IsPublished"] for row in table.values()] == [False, True]


class TestCosts:
    async def test_a_cost_of_a_ticket_is_told_at_the_tickets_case(self, office: ServiceOffice) -> None:
        await office.deliver(COST)
        assert office.case(ORDER_TICKET)["Subject"] == f"Cost posted for ticket {ORDER_TICKET}"
        assert office.comments(ORDER_TICKET) == [
            "OPEX cost of 340.00 EUR was posted to cost center CC-4100, asset TR-0007.\n4 gasket sets"
        ]

    async def test_a_cost_without_a_ticket_is_told_at_the_cost_centers_case(self, office: ServiceOffice) -> None:
        await office.deliver({**changed(COST, ticket_id=None), "subject": "CC-4100"})
        assert office.case("BUDGET-CC-4100")["Subject"] == "Budget CC-4100"

    async def test_commitments_and_warnings_share_the_case_of_their_cost_center(self, office: ServiceOffice) -> None:
        for event in (COMMITMENT, WARNING, COMMITMENT, WARNING):
            await office.deliver(event)
        assert office.case("BUDGET-CC-4100")["Subject"] == "Budget CC-4100"
        assert office.comments("BUDGET-CC-4100") == [
            "The commitment for requisition 019ab0c4-0000-7000-8000-0000000000b1 "
            "(ticket TKT-MM-20261123-0001) is open: 1,234.50 EUR.",
            "The budget 2026 of cost center CC-4100 was passed.\nBudget: 10,000.00 EUR\nActual: 7,000.00 EUR\n"
            "Committed: 3,234.50 EUR\nBooking: 1,234.50 EUR on CC-4100",
        ]

    @pytest.mark.parametrize(
        ("data", "key"),
        [
            ({"ticket_id": TICKET, "amount": "5.00"}, TICKET),
            ({"cost_center_id": "CC-9", "old": "1"}, "BUDGET-CC-9"),
            ({"anything": True}, "FI-X-17"),
            ({}, "FI-X-17"),
        ],
        ids=["ticket", "cost center", "neither", "nothing"],
    )
    async def test_finance_news_that_the_connector_has_no_words_for_are_told_as_they_are(
        self, office: ServiceOffice, data: dict[str, Any], key: str
    ) -> None:
        await office.deliver({**WARNING, "type": "FI_SOMETHING_NEW", "subject": "X-17", "data": data})
        assert office.case(key)["Busbar_Id__c"] == key
        assert office.comments(key)[0].startswith("Something new.")

    async def test_plain_values_of_such_news_stand_in_the_comment(self, office: ServiceOffice) -> None:
        data = {"ticket_id": TICKET, "amount": "5.00", "level": 2, "parts": [1], "open": True, "note": ""}
        await office.deliver({**WARNING, "type": "FI_SOMETHING_NEW", "data": data})
        assert office.comments() == [f"Something new.\nTicket id: {TICKET}\nAmount: 5.00\nLevel: 2\nOpen: true"]

    async def test_a_returned_cost_is_negative(self, office: ServiceOffice) -> None:
        await office.deliver(changed(COST, kind="return", amount="-85.00", description=None))
        assert office.comments(ORDER_TICKET) == [
            "OPEX return of -85.00 EUR was posted to cost center CC-4100, asset TR-0007."
        ]

    async def test_a_used_up_budget_says_what_was_refused(self, office: ServiceOffice) -> None:
        event = changed(WARNING, refused=True, booked_on="CC-4110")
        await office.deliver({**event, "type": "FI_BUDGET_EXCEEDED"})
        [comment] = office.comments("BUDGET-CC-4100")
        assert comment.startswith("The budget 2026 of cost center CC-4100 is used up.\n")
        assert comment.endswith("\nBooking: 1,234.50 EUR on CC-4110 was refused")


class TestOneCasePerTicket:
    async def test_the_same_event_twice_changes_nothing(self, office: ServiceOffice) -> None:
        first = await office.deliver(CREATED)
        second = await office.deliver(CREATED)
        assert (second.remote_id, second.duplicate) == (first.remote_id, True)
        assert second.detail == "Case 00001001 has been told of this already."
        assert len(office.simulator.effects) == 1

    async def test_the_same_comment_is_not_written_twice(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        for _ in range(3):
            for event in (REQUESTED, COMPLETED, UPDATED):
                await office.deliver(event)
        assert len(office.comments()) == 3

    async def test_a_late_event_does_not_set_the_case_back_and_its_comment_is_kept(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed", comment="Done"))
        for _ in range(2):
            await office.deliver(ticket_update(3, "In_Progress", comment="Started"))
        assert office.case()["Status"] == "Closed"
        assert office.comments() == ["Done", "Started"]

    async def test_a_late_event_without_a_comment_changes_nothing(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        assert (await office.deliver(ticket_update(3, "In_Progress"))).duplicate
        assert office.case()["Status"] == "Closed"

    async def test_of_approval_steps_out_of_order_each_is_told_once(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        for event in (COMPLETED, REQUESTED, REQUESTED, COMPLETED):
            await office.deliver(event)
        assert sorted(comment[:12] for comment in office.comments()) == ["Approval of ", "The approval"]

    async def test_an_approval_does_not_hold_back_news_of_the_ticket(self, office: ServiceOffice) -> None:
        await office.deliver(later(COMPLETED, seconds=3600))
        await office.deliver(CREATED)
        await office.deliver(UPDATED)
        row = office.case()
        assert (row["Status"], row["Subject"]) == ("Working", "Approve 1,234.50 EUR for CC-4100")
        assert row["Description"].startswith("Requisition of 10 gasket sets.")
        assert row["Busbar_Marker__c"] == (
            f"Busbar v2 20261123T092000.250000Z 20261123T110500.500000Z {CORRELATION_ID}"
        )

    async def test_an_update_without_a_case_opens_it(self, office: ServiceOffice) -> None:
        receipt = await office.deliver(UPDATED)
        assert receipt.detail == "A Case was opened."
        assert (office.case()["Status"], len(office.comments())) == ("Working", 1)
        await office.deliver(CREATED)
        assert office.case()["Status"] == "Working"
        assert office.case()["Description"].startswith("Requisition of 10 gasket sets.")

    async def test_a_deleted_case_is_opened_again(self, office: ServiceOffice) -> None:
        gone = (await office.deliver(CREATED)).remote_id
        office.simulator.change(external_id=TICKET, delete=True)
        receipt = await office.deliver(UPDATED)
        assert receipt.remote_id == office.case()["Id"] != gone

    async def test_a_comment_by_the_service_team_is_not_taken_for_ours(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.change(external_id=TICKET, comment="Approval of 1,234.50 EUR was requested.")
        await office.deliver(REQUESTED)
        assert len(office.comments()) == 2


class TestMappedDocument:
    async def test_its_fields_replace_ours_one_by_one(self, office: ServiceOffice) -> None:
        document = {"Subject": "Money: CC-4100", "Origin": "Web", "Priority": "High", "SuppliedName": "Busbar"}
        await office.deliver(CREATED, document=document)
        row = office.case()
        assert {name: row[name] for name in document} == document
        assert row["Description"].startswith("Requisition of 10 gasket sets.")

    async def test_null_leaves_one_of_our_fields_out_and_an_empty_text_clears_it(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED, document={"Description": None, "SuppliedName": "Busbar"})
        assert office.case()["Description"] is None
        await office.deliver(UPDATED, document={"SuppliedName": ""})
        assert office.case()["SuppliedName"] is None

    async def test_comments_can_be_replaced_and_left_out(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(REQUESTED, document={"Comments": "Please decide."})
        await office.deliver(COMPLETED, document={"Comments": None})
        assert office.comments() == ["Please decide."]

    async def test_its_fields_grow_old_with_their_event(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        await office.deliver(ticket_update(3, "In_Progress"), document={"Type": "Other", "Status": "Working"})
        assert (office.case()["Status"], office.case()["Type"]) == ("Closed", None)

    @pytest.mark.parametrize(
        ("document", "sentence"),
        [
            ({"Busbar_Id__c": "X"}, "Busbar_Id__c, which Busbar keeps for itself"),
            ({"busbar_marker__c": "X"}, "busbar_marker__c, which Busbar keeps for itself"),
            ({"Id": "X"}, "Id, which Busbar keeps for itself"),
            ({"Parts": [1]}, "Parts a list"),
            ({"a b": "x"}, "no field name"),
        ],
    )
    async def test_says_which_field_cannot_be_sent(
        self, office: ServiceOffice, document: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(CREATED, document=document)
        assert office.simulator.requests == 0


class TestEventsThatCannotBeTold:
    @pytest.mark.parametrize(
        ("event", "sentence"),
        [
            ({**CREATED, "type": "MM_STOCK_CHANGED"}, "cannot tell of MM_STOCK_CHANGED"),
            ({**CREATED, "data": {"ticket_id": TICKET}}, "data of FI_TICKET_CREATED cannot be read"),
            ({**CREATED, "time": "yesterday"}, "time cannot be read"),
            (changed(CREATED, priority="P9"), "'P9' is none of P1, P2, P3, P4"),
            (changed(CREATED, status="Lost"), "'Lost' has no status"),
            (changed(CREATED, ticket_id="T" * 256), "256 characters"),
        ],
        ids=["type", "data", "time", "priority", "status", "ticket id"],
    )
    async def test_are_refused_for_good_and_named(
        self, office: ServiceOffice, event: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(event)
        assert office.simulator.requests == 0
