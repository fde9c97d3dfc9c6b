"""Maintenance tickets become notifications with a short and a long text, orders become maintenance orders."""

from datetime import UTC, datetime, time

import pytest

from busbar.sdk import NothingToTell, Permanent, Retryable
from busbar_erp import documents
from busbar_erp.tests.conftest import ENDPOINT, Office
from busbar_erp.tests.golden import (
    INCIDENT,
    ORDER_TICKET,
    TICKET,
    changed,
    incident_opened,
    incident_updated,
    order_completed,
    order_opened,
    ticket_update,
)

LONG_TEXT = "MaintNotifLongTextForEdit"


class TestIncident:
    async def test_becomes_a_malfunction_report(self, office: Office) -> None:
        office.configure(time_zone="Europe/Berlin")
        receipt = await office.deliver(incident_opened())
        row = office.notification()
        assert (receipt.remote_id, receipt.detail) == ("10000001", "Notification 10000001 was opened.")
        names = ("NotificationType", "NotificationText", "MaintPriority", "ReportedByUser", "NotifProcessingPhase")
        assert [row[name] for name in names] == ["M2", "Outage at FD-012: Feeder tripped on ove…", "1", "ERNA", "1"]
        assert row["MaintNotifExtReferenceNumber"] == documents.short_id_of(
            ENDPOINT, "notification", TICKET, prefix="BB"
        )
        assert (row["MalfunctionStartDate"], row["MalfunctionStartTime"]) == (
            datetime(2026, 11, 28, tzinfo=UTC),
            time(10, 14),
        )
        assert row["MaintenanceObjectIsDown"] is True
        assert row[LONG_TEXT] == (
            f"{TICKET}\nOutage at FD-012: Feeder tripped on overcurrent\n\n"
            "Feeder tripped on overcurrent.\nTwo reclosings without success.\n\n"
            "Asset: Feeder 12 Harbour (FD-012)\nFault: outage, since 2026-11-28 09:14 UTC\n"
            "Customers affected: 300, restored: 0"
        )

    async def test_a_title_is_cut_at_code_points_and_stands_whole_in_the_long_text(self, office: Office) -> None:
        title = "Störung an der Übergabestation Ω🔥 " * 3
        await office.deliver(incident_opened(title=title))
        row = office.notification()
        assert (len(row["NotificationText"]), row["NotificationText"][-1]) == (40, "…")
        assert " ".join(title.split()) in row[LONG_TEXT]

    async def test_a_long_description_keeps_number_and_facts(self, office: Office) -> None:
        await office.deliver(incident_opened(description="x" * 5000))
        text = office.notification()[LONG_TEXT]
        assert len(text) <= 1333
        assert text.startswith(TICKET)
        assert "x…\n\nAsset: Feeder 12 Harbour (FD-012)" in text

    async def test_asset_ids_can_be_functional_locations(self, office: Office) -> None:
        office.configure(asset_as="functional_location")
        await office.deliver(incident_opened())
        row = office.notification()
        assert (row["TechnicalObject"], row["TechObjIsEquipOrFuncnlLoc"]) == ("FD-012", "EAMS_FL")

    async def test_what_becomes_known_is_added_to_the_long_text(self, office: Office) -> None:
        await office.deliver(incident_opened())
        update = incident_updated()
        restored = {**update["data"]["incident"], "restored_at": "2026-11-28T10:00:00Z", "customers_restored": 320}
        receipt = await office.deliver(changed(update, incident=restored))
        assert receipt.detail == "Notification 10000001 was changed."
        row = office.notification()
        assert row[LONG_TEXT].split("\n")[-1] == (
            "[2026-11-28 10:05:00.125+00:00] Supply restored to 320 of 320 customers, all by 2026-11-28 10:00 UTC."
        )
        assert row["MalfunctionEndTime"] == time(10, 0)
        assert row["MaintPriority"] == "1"

    async def test_mapped_fields_replace_ours(self, office: Office) -> None:
        document = {"MaintPriority": "2", "MaintNotificationCode": "ELEC", "ReportedByUser": None}
        await office.deliver(incident_opened(), document=document)
        row = office.notification()
        assert [row[n] for n in ("MaintPriority", "MaintNotificationCode", "ReportedByUser")] == ["2", "ELEC", ""]

    async def test_a_mapped_field_that_does_not_fit_is_refused_by_name_for_old_notifications_too(
        self, office: Office
    ) -> None:
        await office.deliver(ticket_update(2, "Assigned"))
        with pytest.raises(Permanent, match="MaintNotificationCode takes 4 characters"):
            await office.deliver(incident_opened(), document={"MaintNotificationCode": "ELECTRIC"})

    async def test_an_unknown_priority_is_refused(self, office: Office) -> None:
        with pytest.raises(Permanent, match="'P9' is none of P1, P2, P3, P4"):
            await office.deliver(incident_opened(priority="P9"))


class TestLifeOfATicket:
    async def test_each_status_has_its_phase(self, office: Office) -> None:
        await office.deliver(incident_opened())
        phases = []
        steps = [("Assigned", "assign"), ("In_Progress", "move"), ("Closed", "move"), ("In_Progress", "reopen")]
        for version, (status, action) in enumerate([*steps, ("Cancelled", "cancel")], start=2):
            await office.deliver(ticket_update(version, status, action))
            phases.append(office.notification()["NotifProcessingPhase"])
        assert phases == ["1", "3", "4", "3", "4"]

    async def test_who_has_it_and_what_was_said_stands_in_the_long_text(self, office: Office) -> None:
        await office.deliver(incident_opened())
        await office.deliver(ticket_update(2, "Assigned", "assign", comment="Crew 4 is\non the way"))
        await office.deliver(ticket_update(3, "Assigned", "hold", comment="Waiting for a permit"))
        assert office.notification()[LONG_TEXT].split("\n")[-2:] == [
            "[v2 2026-11-28 10:02 UTC] Assigned to ben. Crew 4 is on the way",
            "[v3 2026-11-28 10:03 UTC] Put on hold. Waiting for a permit",
        ]

    async def test_a_closing_comment_is_written_before_sap_locks_the_text(self, office: Office) -> None:
        await office.deliver(incident_opened())
        await office.deliver(ticket_update(4, "Closed", comment="Joint replaced"))
        assert office.notification()[LONG_TEXT].endswith("Joint replaced")
        assert office.writes() == [
            "POST MaintenanceNotification",
            "PATCH MaintenanceNotification",
            "CompleteMaintNotification",
        ]

    async def test_a_comment_on_a_completed_notification_is_left_out_with_a_remark(self, office: Office) -> None:
        await office.deliver(incident_opened())
        await office.deliver(ticket_update(4, "Closed"))
        receipt = await office.deliver(ticket_update(5, "Closed", "note", comment="Photos are in the archive"))
        assert receipt.detail is not None
        assert f"It is completed in SAP, so {LONG_TEXT} stayed as they were." in receipt.detail

    async def test_what_people_in_sap_wrote_is_never_cut_off(self, office: Office) -> None:
        await office.deliver(incident_opened())
        theirs = "y" * 1330
        office.simulator.change(
            "MaintenanceNotification", {"MaintenanceNotification": "10000001"}, **{LONG_TEXT: theirs}
        )
        receipt = await office.deliver(ticket_update(2, "Assigned", "assign", comment="Crew 4"))
        assert office.notification()[LONG_TEXT] == theirs
        assert receipt.detail is not None
        assert receipt.detail.endswith("Its long text is full, so the note was left out.")


class TestOneNotificationPerTicket:
    async def test_the_same_events_again_change_nothing(self, office: Office) -> None:
        story = [incident_opened(), ticket_update(2, "Assigned", "assign", comment="Crew 4"), incident_updated()]
        for event in story:
            await office.deliver(event)
        before = office.writes()
        for event in story:
            assert (await office.deliver(event, number=2)).duplicate
        assert office.writes() == before

    async def test_a_late_event_does_not_set_the_notification_back(self, office: Office) -> None:
        await office.deliver(incident_opened())
        await office.deliver(ticket_update(4, "Closed"))
        assert (await office.deliver(ticket_update(3, "In_Progress"))).duplicate
        assert office.notification()["NotifProcessingPhase"] == "4"

    async def test_an_update_that_finds_no_notification_opens_it(self, office: Office) -> None:
        await office.deliver(ticket_update(3, "In_Progress", comment="Crew is there"))
        row = office.notification()
        assert (row["NotificationType"], row["NotifProcessingPhase"]) == ("M2", "3")
        await office.deliver(incident_opened(title="The old title"))
        row = office.notification()
        assert row["NotificationText"].startswith("Outage at FD-012")
        assert "Fault: outage" in row[LONG_TEXT]
        assert row[LONG_TEXT].endswith("[v3 2026-11-28 10:03 UTC] Crew is there")

    async def test_news_of_an_incident_without_a_notification_opens_it(self, office: Office) -> None:
        await office.deliver(incident_updated())
        assert office.notification()["NotificationText"] == "Outage at FD-012: Cable cut."

    async def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable):
            await office.deliver(incident_opened())
        receipt = await office.deliver(incident_opened(), number=2)
        assert (receipt.duplicate, len(office.simulator.effects)) == (True, 1)

    async def test_each_step_of_a_change_is_made_once_whichever_answer_is_lost(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        close = ticket_update(4, "Closed", comment="Joint replaced")
        await office.deliver(incident_opened())
        for method in ("PATCH", "POST"):
            office.simulator.misbehave("timeout_after_effect", count=1, method=method)
            with pytest.raises(Retryable):
                await office.deliver(close)
        assert (await office.deliver(close, number=3)).duplicate
        assert office.writes() == [
            "POST MaintenanceNotification",
            "PATCH MaintenanceNotification",
            "CompleteMaintNotification",
        ]
        assert office.notification()[LONG_TEXT].count("Joint replaced") == 1

    async def test_a_change_made_in_sap_meanwhile_is_kept(self, office: Office) -> None:
        await office.deliver(incident_opened())
        office.simulator.misbehave("stale_etag", count=1, method="PATCH")
        await office.deliver(ticket_update(2, "Assigned", "assign", comment="Crew 4"))
        assert office.notification()[LONG_TEXT].count("Crew 4") == 1

    async def test_one_that_is_changed_again_and_again_is_tried_later(self, office: Office) -> None:
        await office.deliver(incident_opened())
        office.simulator.misbehave("stale_etag", method="PATCH")
        with pytest.raises(Retryable, match="Somebody keeps changing notification 10000001"):
            await office.deliver(ticket_update(2, "Assigned", "assign", comment="Crew 4"))


class TestOrder:
    async def test_becomes_a_notification_and_a_released_order(self, office: Office) -> None:
        receipt = await office.deliver(order_opened())
        row, order = office.notification(), office.one("MaintenanceOrder")
        assert receipt.remote_id == order["MaintenanceOrder"] == row["MaintenanceOrder"] == "4000001"
        assert receipt.detail == "Notification 10000001 was opened. Order 4000001."
        assert row["NotificationType"] == "M1"
        names = ("MaintenanceOrderType", "SystemStatusText", "ResponsibleCostCenter", "MaintPriority")
        assert [order[name] for name in names] == ["PM01", "REL", "CC-200", "3"]
        assert order["MaintOrdBasicStartDateTime"] == datetime(2026, 11, 30, tzinfo=UTC)
        operation = office.one("MaintenanceOrderOperation")
        assert operation["OperationDescription"] == "Corrective maintenance of TR-0007: oil…"

    async def test_release_can_be_left_to_people_in_sap(self, office: Office) -> None:
        office.configure(release_orders=False)
        await office.deliver(order_opened())
        assert office.one("MaintenanceOrder")["SystemStatusText"] == "CRTD"

    async def test_completion_completes_it_technically_and_its_notification(self, office: Office) -> None:
        await office.deliver(order_opened())
        await office.deliver(order_completed())
        assert office.one("MaintenanceOrder")["SystemStatusText"] == "TECO"
        row = office.notification()
        assert row["NotifProcessingPhase"] == "4"
        assert row[LONG_TEXT].endswith("Completed by ben. Gasket replaced, oil topped up by 12 l.")

    async def test_the_way_of_its_ticket_to_closed_changes_nothing_more(self, office: Office) -> None:
        await office.deliver(order_opened())
        await office.deliver(order_completed())
        before = office.writes()
        for version, status in enumerate(("Assigned", "In_Progress", "Closed"), start=2):
            await office.deliver(ticket_update(version, status, ticket_id=ORDER_TICKET))
        assert office.writes() == before

    async def test_a_reopened_ticket_takes_the_completion_back(self, office: Office) -> None:
        await office.deliver(order_opened())
        await office.deliver(order_completed())
        await office.deliver(ticket_update(9, "In_Progress", "reopen", ticket_id=ORDER_TICKET))
        assert office.one("MaintenanceOrder")["SystemStatusText"] == "REL"
        assert office.notification()["NotifProcessingPhase"] == "3"

    async def test_a_cancelled_ticket_flags_it_for_deletion(self, office: Office) -> None:
        await office.deliver(order_opened())
        await office.deliver(ticket_update(2, "Cancelled", "cancel", ticket_id=ORDER_TICKET))
        assert office.one("MaintenanceOrder")["SystemStatusText"] == "DLFL"

    async def test_a_completion_without_an_order_makes_it_first(self, office: Office) -> None:
        await office.deliver(order_completed())
        assert office.one("MaintenanceOrder")["SystemStatusText"] == "TECO"
        assert office.notification()["NotificationText"] == "Corrective maintenance of Transformer 7…"

    async def test_an_order_whose_answer_was_lost_is_found_by_its_notification(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1, path_contains="/MaintenanceOrder")
        with pytest.raises(Retryable):
            await office.deliver(order_opened())
        await office.deliver(order_opened(), number=2)
        assert office.writes() == [
            "POST MaintenanceNotification",
            "POST MaintenanceOrder",
            "ReleaseMaintenanceOrder",
        ]

    async def test_the_asset_can_be_an_equipment(self, office: Office) -> None:
        office.configure(asset_as="equipment")
        await office.deliver(order_opened())
        assert office.one("MaintenanceOrder")["Equipment"] == "TR-0007"

    async def test_an_asset_id_that_is_no_equipment_number_is_refused(self, office: Office) -> None:
        office.configure(asset_as="equipment")
        long = {**order_opened()["data"]["order"], "asset_id": "TRANSFORMER-MILL-LANE-7"}
        with pytest.raises(Permanent, match="asset 'TRANSFORMER-MILL-LANE-7' is no code of SAP"):
            await office.deliver(order_opened(order=long))


class TestTicketsWithoutFacts:
    async def test_a_ticket_that_is_no_incident_and_no_order_is_not_told(self, office: Office) -> None:
        with pytest.raises(NothingToTell, match="neither an incident nor a maintenance order"):
            await office.deliver(incident_opened(incident=None))
        assert INCIDENT["asset_id"] == "FD-012"
