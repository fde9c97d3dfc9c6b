"""Delivery against the simulator: one record per ticket, told everything once, and never set back."""

import pytest

from busbar.sdk import NothingToTell, Permanent
from busbar_itsm.tests.conftest import ServiceOffice
from busbar_itsm.tests.golden import CORRELATION_ID, ORDER_TICKET, TICKET, changed, golden, later, ticket_update

CREATED = golden("incident_ticket_created")
ASSIGNED = golden("ticket_assigned")
INCIDENT_UPDATED = golden("incident_updated")


class TestOpening:
    async def test_a_new_ticket_becomes_an_incident(self, office: ServiceOffice) -> None:
        receipt = await office.deliver(CREATED)
        row = office.incident()
        assert (receipt.remote_id, receipt.duplicate, receipt.marker) == (row["sys_id"], False, "0")
        assert receipt.detail == "INC0010001 was opened."
        assert receipt.remote_url == (f"{office.simulator.url}/nav_to.do?uri=%2Fincident.do%3Fsys_id%3D{row['sys_id']}")
        shown = {name: row[name] for name in ("short_description", "priority", "state", "correlation_display")}
        assert shown == {
            "short_description": "Outage at FD-012: Feeder tripped on overcurrent",
            "priority": "1",
            "state": "1",
            "correlation_display": f"Busbar v1 20261123T092000.250000Z {CORRELATION_ID}",
        }
        assert row["description"] == (
            "Feeder tripped on overcurrent.\nTwo reclosings without success.\n\n"
            "Asset: Feeder 12 Harbour (FD-012) feeder\n"
            "Fault: outage, since 2026-11-23 09:14 UTC\n"
            "Customers affected: 300, restored: 0\n"
            "Position: 53.541200, 9.984100"
        )

    async def test_the_correlation_id_goes_along_on_the_wire(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        [effect] = office.simulator.effects
        assert effect.request_correlation_id == CORRELATION_ID

    async def test_looking_before_creating_costs_one_request(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        assert office.simulator.requests == 2

    async def test_caller_and_group_come_from_the_settings_and_are_set_once(self, office: ServiceOffice) -> None:
        office.configure(caller_id="a" * 32, assignment_group="b" * 32)
        await office.deliver(CREATED)
        assert (office.incident()["caller_id"], office.incident()["assignment_group"]) == ("a" * 32, "b" * 32)
        office.simulator.change(correlation_id=TICKET, fields={"assignment_group": "c" * 32})
        await office.deliver(ASSIGNED)
        assert office.incident()["assignment_group"] == "c" * 32

    async def test_a_maintenance_ticket_tells_of_its_order(self, office: ServiceOffice) -> None:
        await office.deliver(golden("order_ticket_created"))
        row = office.incident(ORDER_TICKET)
        assert (row["priority"], row["short_description"]) == ("3", "Corrective maintenance of TR-0007: oil leak")
        assert row["description"] == (
            "Oil leak at the tap changer.\n\n"
            "Asset: Transformer 7 Mill Lane (TR-0007)\nOrder: corrective\nScheduled: 2026-11-30"
        )

    @pytest.mark.parametrize(("priority", "remote"), [("P1", "1"), ("P2", "2"), ("P3", "3"), ("P4", "4")])
    async def test_the_instance_works_out_the_same_priority(
        self, office: ServiceOffice, priority: str, remote: str
    ) -> None:
        await office.deliver(changed(CREATED, priority=priority))
        assert office.incident()["priority"] == remote

    async def test_a_long_title_is_cut_with_a_sign_of_it(self, office: ServiceOffice) -> None:
        await office.deliver(changed(CREATED, title="x" * 200))
        assert office.incident()["short_description"] == "x" * 159 + "…"

    async def test_a_long_description_keeps_the_facts(self, office: ServiceOffice) -> None:
        await office.deliver(changed(CREATED, description="x" * 5000))
        description = office.incident()["description"]
        assert len(description) == 4000
        assert "x…\n\nAsset: Feeder 12 Harbour" in description


class TestLifeOfATicket:
    async def test_each_status_has_its_state(self, office: ServiceOffice) -> None:
        remote_id = (await office.deliver(CREATED)).remote_id
        states = []
        for version, (status, action) in enumerate(
            [
                ("Assigned", "move"),
                ("In_Progress", "move"),
                ("Closed", "move"),
                ("In_Progress", "reopen"),
                ("Cancelled", "cancel"),
            ],
            start=2,
        ):
            receipt = await office.deliver(ticket_update(version, status, action), remote_id=remote_id)
            states.append(office.incident()["state"])
            assert receipt.remote_id == remote_id
        assert states == ["2", "2", "6", "2", "8"]

    async def test_who_has_it_and_why_stands_in_the_work_notes(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ASSIGNED)
        assert office.notes() == ["Assigned to ben in Busbar.\nCrew 4 is on the way"]

    async def test_notes_can_go_to_the_caller_instead(self, office: ServiceOffice) -> None:
        office.configure(note_field="comments")
        await office.deliver(CREATED)
        await office.deliver(ASSIGNED)
        assert office.notes(element="comments") == ["Assigned to ben in Busbar.\nCrew 4 is on the way"]
        assert office.notes() == []

    async def test_hold_and_resume(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(2, "Assigned", "hold", on_hold=True, comment="Waiting for a permit"))
        row = office.incident()
        assert (row["state"], row["hold_reason"]) == ("3", "4")
        await office.deliver(ticket_update(3, "Assigned", "resume"))
        row = office.incident()
        assert (row["state"], row["hold_reason"]) == ("2", "")
        assert office.notes() == ["Put on hold in Busbar.\nWaiting for a permit", "Resumed in Busbar."]

    async def test_closing_resolves_with_code_and_notes(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed", comment="Cable joint replaced"))
        row = office.incident()
        assert (row["state"], row["close_code"], row["close_notes"]) == (
            "6",
            "Solution provided",
            "Cable joint replaced",
        )
        assert row["active"] == "true"
        # The closing comment stands in the resolution notes, and not a second time in the work notes.
        assert office.notes() == []

    async def test_closing_without_a_comment_has_notes_all_the_same(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        assert office.incident()["close_notes"] == "Closed in Busbar."

    async def test_closing_can_close_for_good(self, office: ServiceOffice) -> None:
        office.configure(closed_as="closed", close_code="Resolved by change")
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        row = office.incident()
        assert (row["state"], row["close_code"], row["active"]) == ("7", "Resolved by change", "false")

    async def test_a_reopened_ticket_counts_as_reopened(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        await office.deliver(ticket_update(5, "In_Progress", "reopen", comment="Tripped again"))
        row = office.incident()
        assert (row["state"], row["reopen_count"]) == ("2", "1")
        assert office.notes() == ["Reopened in Busbar.\nTripped again"]

    async def test_what_becomes_known_of_an_incident_changes_its_description(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        receipt = await office.deliver(INCIDENT_UPDATED)
        row = office.incident()
        assert row["description"].startswith("Feeder tripped: excavator cut the cable at Dock Street.\n\nAsset:")
        assert "Customers affected: 320, restored: 200" in row["description"]
        assert (row["state"], row["priority"]) == ("1", "1")
        assert office.notes() == ["Supply restored to 200 of 320 customers.\nCustomers affected: 320."]
        assert receipt.detail == "INC0010001 was changed: description, work_notes."

    async def test_a_completed_order_is_noted(self, office: ServiceOffice) -> None:
        await office.deliver(golden("order_ticket_created"))
        await office.deliver(golden("order_completed"))
        assert office.notes(ORDER_TICKET) == [
            "The corrective maintenance was completed by ben.\nGasket replaced, oil topped up by 12 l."
        ]

    async def test_an_alert_about_the_service_level_is_noted(self, office: ServiceOffice) -> None:
        breached = golden("sla_breached")
        warning = changed(breached, target="response", reached_at="2026-11-23T14:00:00Z")
        await office.deliver(CREATED)
        await office.deliver(later({**warning, "type": "PM_SLA_WARNING"}, seconds=-60))
        await office.deliver(breached)
        assert office.notes() == [
            "SLA warning: the time for the response is used up at 2026-11-23 14:05 UTC.",
            "SLA breached: the time for the resolution was used up at 2026-11-23 14:05 UTC.",
        ]
        assert office.incident()["state"] == "1", "the record is left as it is otherwise"

    async def test_an_alert_that_finds_no_record_opens_it(self, office: ServiceOffice) -> None:
        await office.deliver(golden("sla_breached"))
        row = office.incident()
        assert (row["short_description"], row["priority"]) == ("Outage at Transformer 7 Mill Lane", "1")


class TestOneRecordPerTicket:
    async def test_the_same_event_twice_changes_nothing(self, office: ServiceOffice) -> None:
        first = await office.deliver(CREATED)
        second = await office.deliver(CREATED)
        assert (second.remote_id, second.duplicate, second.marker) == (first.remote_id, True, None)
        assert second.detail == "INC0010001 has been told of this already."
        assert len(office.simulator.effects) == 1

    async def test_the_same_note_is_not_written_twice(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        for _ in range(3):
            await office.deliver(ASSIGNED)
            await office.deliver(INCIDENT_UPDATED)
        assert len(office.notes()) == 2
        assert len(office.simulator.effects) == 3

    @pytest.mark.parametrize("order", ["known", "unknown"])
    async def test_a_late_event_does_not_set_the_record_back(self, office: ServiceOffice, order: str) -> None:
        remote_id = (await office.deliver(CREATED)).remote_id if order == "known" else None
        await office.deliver(ticket_update(4, "Closed", comment="Done"), remote_id=remote_id)
        late = await office.deliver(ticket_update(3, "In_Progress"), remote_id=remote_id)
        assert late.duplicate
        assert office.incident()["state"] == "6"

    async def test_an_older_description_does_not_replace_a_newer_one(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        newer = later(changed(INCIDENT_UPDATED, description="The newest"), seconds=60)
        await office.deliver(newer)
        assert (await office.deliver(INCIDENT_UPDATED)).duplicate
        assert office.incident()["description"].startswith("The newest\n")

    async def test_news_of_the_incident_does_not_hold_back_news_of_the_ticket(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(INCIDENT_UPDATED)
        # It happened before the incident's update, and arrives after it.
        await office.deliver(ASSIGNED)
        row = office.incident()
        assert row["state"] == "2"
        assert row["description"].startswith("Feeder tripped: excavator")
        assert row["correlation_display"] == f"Busbar v2 20261123T100500.125000Z {CORRELATION_ID}"

    async def test_of_two_records_the_oldest_is_used_and_the_other_named(self, office: ServiceOffice) -> None:
        oldest = await office.deliver(CREATED)
        row = office.incident()
        office.clock.move(60)
        copied = {name: row[name] for name in ("short_description", "correlation_id", "correlation_display")}
        office.simulator.api.write("POST", "incident", None, copied, user="service.desk", request_correlation_id="")
        receipt = await office.deliver(ASSIGNED)
        assert receipt.remote_id == oldest.remote_id
        assert receipt.detail is not None
        assert receipt.detail.endswith(
            "2 records carry TKT-PM-20261123-0001; the oldest is used, close the others: INC0010002."
        )


class TestMissingRecord:
    async def test_an_update_without_a_record_opens_it(self, office: ServiceOffice) -> None:
        receipt = await office.deliver(ASSIGNED)
        row = office.incident()
        assert (row["short_description"], row["state"], row["priority"]) == (
            "Outage at FD-012: Feeder tripped on overcurrent",
            "2",
            "1",
        )
        assert receipt.detail == "INC0010001 was opened."

    async def test_a_creation_that_comes_late_adds_the_description_and_keeps_the_state(
        self, office: ServiceOffice
    ) -> None:
        await office.deliver(ASSIGNED)
        assert office.incident()["description"] == ""
        await office.deliver(CREATED)
        row = office.incident()
        assert row["state"] == "2"
        assert row["description"].startswith("Feeder tripped on overcurrent.")

    async def test_news_of_an_incident_without_a_record_opens_it(self, office: ServiceOffice) -> None:
        await office.deliver(INCIDENT_UPDATED)
        row = office.incident()
        assert row["short_description"] == ("Outage at FD-012: Feeder tripped: excavator cut the cable at Dock Street.")
        assert (row["priority"], row["state"]) == ("1", "1")
        await office.deliver(CREATED)
        row = office.incident()
        assert row["short_description"] == "Outage at FD-012: Feeder tripped on overcurrent"
        assert row["description"].startswith("Feeder tripped: excavator")

    async def test_a_completed_order_without_a_record_opens_it(self, office: ServiceOffice) -> None:
        await office.deliver(golden("order_completed"))
        row = office.incident(ORDER_TICKET)
        assert row["short_description"] == "Corrective maintenance of Transformer 7 Mill Lane"
        assert len(office.notes(ORDER_TICKET)) == 1

    async def test_a_deleted_record_is_looked_for_and_opened_again(self, office: ServiceOffice) -> None:
        gone = (await office.deliver(CREATED)).remote_id
        office.simulator.api.write("DELETE", "incident", gone, {}, user="service.desk", request_correlation_id="")
        receipt = await office.deliver(ASSIGNED, remote_id=gone)
        assert receipt.remote_id == office.incident()["sys_id"] != gone

    async def test_a_record_whose_id_we_have_wrong_is_found_by_the_ticket(self, office: ServiceOffice) -> None:
        right = (await office.deliver(CREATED)).remote_id
        receipt = await office.deliver(ASSIGNED, remote_id="0" * 32)
        assert receipt.remote_id == right
        assert office.incident()["state"] == "2"

    async def test_a_known_record_that_became_another_tickets_is_left_alone(self, office: ServiceOffice) -> None:
        taken = (await office.deliver(CREATED)).remote_id
        office.simulator.change(sys_id=taken, fields={"correlation_id": "TKT-PM-20261123-0099"})
        receipt = await office.deliver(ASSIGNED, remote_id=taken)
        assert receipt.remote_id != taken
        assert office.incident("TKT-PM-20261123-0099")["state"] == "1"


class TestMappedDocument:
    async def test_its_fields_replace_ours_one_by_one(self, office: ServiceOffice) -> None:
        document = {"short_description": "Storm: FD-012", "category": "network", "urgency": 3, "notify": True}
        await office.deliver(CREATED, document=document)
        row = office.incident()
        assert (row["short_description"], row["category"], row["urgency"], row["notify"]) == (
            "Storm: FD-012",
            "network",
            "3",
            "true",
        )
        assert row["impact"] == "1"
        assert row["description"].startswith("Feeder tripped on overcurrent.")

    async def test_null_leaves_one_of_our_fields_out(self, office: ServiceOffice) -> None:
        office.configure(assignment_group="b" * 32)
        await office.deliver(CREATED, document={"description": None, "assignment_group": None})
        assert (office.incident()["description"], office.incident()["assignment_group"]) == ("", "")

    async def test_its_fields_grow_old_with_their_event(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(ticket_update(4, "Closed"))
        await office.deliver(ticket_update(3, "In_Progress"), document={"category": "network", "state": "2"})
        assert (office.incident()["state"], office.incident()["category"]) == ("6", "inquiry")

    @pytest.mark.parametrize(
        ("document", "sentence"),
        [
            ({"correlation_id": "X"}, "correlation_id, which Busbar keeps for itself"),
            ({"correlation_display": "X"}, "correlation_display, which Busbar keeps for itself"),
            ({"parts": [1]}, "parts a list"),
            ({"sysparm_query=1": "x"}, "no field name"),
        ],
    )
    async def test_says_which_field_cannot_be_sent(
        self, office: ServiceOffice, document: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(CREATED, document=document)
        assert office.simulator.requests == 0


class TestEventsThatNoServiceDeskNeeds:
    async def test_are_skipped_and_named(self, office: ServiceOffice) -> None:
        with pytest.raises(NothingToTell, match="not told of PM_COMPONENTS_CHANGED"):
            await office.deliver({**CREATED, "type": "PM_COMPONENTS_CHANGED"})
        assert office.simulator.requests == 0


class TestEventsThatCannotBeTold:
    @pytest.mark.parametrize(
        ("event", "sentence"),
        [
            ({**CREATED, "type": "MM_STOCK_CHANGED"}, "cannot tell of MM_STOCK_CHANGED"),
            ({**CREATED, "data": {"ticket_id": TICKET}}, "data of PM_TICKET_CREATED cannot be read"),
            ({**CREATED, "time": "yesterday"}, "time cannot be read"),
            (changed(CREATED, priority="P9"), "'P9' is none of P1, P2, P3, P4"),
            (changed(CREATED, status="Lost"), "'Lost' has no state"),
            (changed(CREATED, ticket_id="T" * 101), "101 characters"),
        ],
        ids=["type", "data", "time", "priority", "status", "ticket id"],
    )
    async def test_are_refused_for_good_and_named(
        self, office: ServiceOffice, event: dict[str, object], sentence: str
    ) -> None:
        with pytest.raises(Permanent, match=sentence):
            await office.deliver(event)
        assert office.simulator.requests == 0
