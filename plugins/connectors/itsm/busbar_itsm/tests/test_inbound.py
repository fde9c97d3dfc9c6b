"""What the service desk changes comes back as a change of the ticket, and our own changes do not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from busbar.sdk import InboundMessage, Permanent, RemoteChange
from busbar_itsm.inbound import receive
from busbar_itsm.tests.conftest import ServiceOffice
from busbar_itsm.tests.golden import ORDER_TICKET, TICKET, golden, ticket_update

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMsIG9rIQ=="
CREATED = golden("incident_ticket_created")
SIMULATED = {
    "sys_id": "5" * 32,
    "number": "INC0010001",
    "correlation_id": TICKET,
    "sys_updated_by": "service.desk",
    "sys_mod_count": "4",
}


class Inbox:
    """The receiving end: what the simulator's webhook says, as the connector reads it."""

    def __init__(self, office: ServiceOffice) -> None:
        self._office = office
        self._got: list[InboundMessage] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._got.append(InboundMessage(headers=headers, body=await request.read()))
        return web.Response(status=204)

    async def changes(self) -> list[RemoteChange]:
        """Everything that arrived since the last look."""
        await self._office.simulator.webhooks.settle()
        got, self._got = self._got, []
        assert got, "no webhook came"
        return [change for message in got for change in await receive(self._office.endpoint, message)]

    async def after(self, ticket_id: str = TICKET, **fields: Any) -> list[RemoteChange]:
        """What comes of a change by the service desk."""
        self._office.simulator.change(correlation_id=ticket_id, fields=fields)
        return await self.changes()


@pytest.fixture
async def inbox(office: ServiceOffice) -> AsyncIterator[Inbox]:
    inbox = Inbox(office)
    runner = web.ServerRunner(web.Server(inbox.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await office.deliver(CREATED)
    office.simulator.set_webhook("http://{}:{}/".format(*runner.addresses[0][:2]), SECRET, api_writes=True)
    yield inbox
    await runner.cleanup()


async def read(office: ServiceOffice, kind: str = "incident.updated", **data: Any) -> tuple[RemoteChange, ...]:
    """What the connector makes of a message that we wrote ourselves."""
    body = json.dumps({"type": kind, "timestamp": "2026-11-23T09:30:00Z", "data": {**SIMULATED, **data}}).encode()
    return await receive(office.endpoint, InboundMessage(headers={}, body=body))


class TestServiceDesk:
    async def test_taking_up_an_incident_brings_the_ticket_in_progress(
        self, office: ServiceOffice, inbox: Inbox
    ) -> None:
        [change] = await inbox.after(state="2", comments="Crew is on the way")
        assert change == RemoteChange(
            remote_id=office.incident()["sys_id"],
            ticket_id=TICKET,
            status="In_Progress",
            comment="service.desk in ServiceNow: Crew is on the way",
            marker="1",
        )

    @pytest.mark.parametrize("state", ["6", "7"])
    async def test_resolved_and_closed_both_close_the_ticket(self, inbox: Inbox, state: str) -> None:
        [change] = await inbox.after(state=state, close_code="Solution provided", close_notes="Joint replaced")
        assert (change.status, change.comment) == ("Closed", "service.desk in ServiceNow: Joint replaced")

    async def test_a_cancellation_cancels(self, inbox: Inbox) -> None:
        [change] = await inbox.after(state="8")
        assert (change.status, change.comment) == ("Cancelled", None)

    async def test_a_reopened_incident_goes_back_to_work(self, office: ServiceOffice, inbox: Inbox) -> None:
        await office.deliver(ticket_update(4, "Closed"))
        await inbox.changes()
        [change] = await inbox.after(state="2", comments="Tripped again")
        assert (change.status, change.comment) == ("In_Progress", "service.desk in ServiceNow: Tripped again")

    async def test_a_hold_comes_back_as_a_comment(self, inbox: Inbox) -> None:
        [change] = await inbox.after(state="3", hold_reason="4")
        assert change.status is None
        assert change.comment == "service.desk in ServiceNow: The record was put on hold: Awaiting Vendor."

    async def test_a_step_back_to_new_comes_back_as_a_comment(self, inbox: Inbox) -> None:
        await inbox.after(state="2")
        [change] = await inbox.after(state="1")
        assert (change.status, change.comment) == (None, "service.desk in ServiceNow: The record was set back to New.")

    async def test_a_comment_alone_does_not_move_the_ticket(self, office: ServiceOffice, inbox: Inbox) -> None:
        # Assigned is In Progress over there: only a change of state may move ours.
        await office.deliver(ticket_update(2, "Assigned"))
        await inbox.changes()
        [change] = await inbox.after(comments="Gate code is 4711")
        assert (change.status, change.comment) == (None, "service.desk in ServiceNow: Gate code is 4711")

    async def test_what_says_nothing_to_busbar_is_dropped(self, inbox: Inbox) -> None:
        assert await inbox.after(category="network") == []


class TestEcho:
    @pytest.mark.parametrize("status", ["Assigned", "In_Progress", "Closed", "Cancelled"])
    async def test_our_own_changes_are_dropped(self, office: ServiceOffice, inbox: Inbox, status: str) -> None:
        await office.deliver(ticket_update(2, status))
        assert await inbox.changes() == []

    async def test_they_are_dropped_even_if_the_user_in_the_settings_is_wrong(
        self, office: ServiceOffice, inbox: Inbox
    ) -> None:
        await office.deliver(ticket_update(2, "Assigned"))
        office.configure(username="somebody.else")
        assert await inbox.changes() == []

    async def test_whatever_the_integration_user_does_is_our_own(self, office: ServiceOffice) -> None:
        assert await read(office, state="6", changed=["state"], sys_updated_by="Busbar.Integration") == ()

    async def test_our_own_creation_is_dropped(self, office: ServiceOffice, inbox: Inbox) -> None:
        await office.deliver(golden("order_ticket_created"))
        assert await inbox.changes() == []

    async def test_a_receipt_names_the_revision_that_its_echo_would_have(
        self, office: ServiceOffice, inbox: Inbox
    ) -> None:
        receipt = await office.deliver(ticket_update(2, "Assigned"))
        assert receipt.marker == office.incident()["sys_mod_count"] == "1"
        [change] = await inbox.after(comments="Noted")
        assert change.marker == "2"

    async def test_what_is_told_back_of_a_change_leaves_the_record_as_it_was(
        self, office: ServiceOffice, inbox: Inbox
    ) -> None:
        [change] = await inbox.after(state="2", comments="On our way")
        before = office.incident()
        await office.deliver(ticket_update(2, "Assigned"))
        await office.deliver(ticket_update(3, str(change.status), comment=change.comment))
        assert office.incident()["state"] == before["state"] == "2"
        assert await inbox.changes() == []


class TestMessage:
    async def test_the_journals_header_line_is_cut_off(self, office: ServiceOffice) -> None:
        told = "2026-11-23 09:30:00 - Carla Berg (Additional comments)\nGate code\nis 4711\n\n"
        [change] = await read(office, comments=told, changed=["comments"])
        assert change.comment == "service.desk in ServiceNow: Gate code\nis 4711"

    async def test_control_characters_do_not_get_through(self, office: ServiceOffice) -> None:
        [change] = await read(office, comments="a\x00b\x1b[31m\tc", changed=["comments"])
        assert change.comment == "service.desk in ServiceNow: ab[31m\tc"

    async def test_a_long_comment_is_cut(self, office: ServiceOffice) -> None:
        [change] = await read(office, comments="x" * 100_000, changed=["comments"])
        assert change.comment is not None
        assert len(change.comment) == 4000

    async def test_work_notes_come_along_where_the_business_rule_sends_them(self, office: ServiceOffice) -> None:
        [change] = await read(office, work_notes="Internal", comments="Public", changed=["comments", "work_notes"])
        assert change.comment == "service.desk in ServiceNow: Public\nInternal"

    async def test_a_deleted_record_is_noted(self, office: ServiceOffice) -> None:
        [change] = await read(office, "incident.deleted")
        assert (change.status, change.comment) == (None, "The record INC0010001 was deleted in ServiceNow.")

    async def test_a_copy_of_our_record_is_not_ours(self, office: ServiceOffice) -> None:
        assert await read(office, "incident.created", state="2", changed=["state"]) == ()

    @pytest.mark.parametrize("correlation_id", ["", "ZABBIX-4711", "TKT-PM-1-1", TICKET + "x"])
    async def test_records_of_other_systems_are_none_of_our_business(
        self, office: ServiceOffice, correlation_id: str
    ) -> None:
        assert await read(office, correlation_id=correlation_id, state="6", changed=["state"]) == ()

    async def test_an_unknown_state_moves_nothing(self, office: ServiceOffice) -> None:
        assert await read(office, correlation_id=ORDER_TICKET, state="17", changed=["state"]) == ()

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b'{"type": 5}', b'{"type": "incident.updated", "data": {}}', b"\xff", b"[" * 100_000],
        ids=["empty", "array", "no text", "no sys_id", "no UTF-8", "deep nesting"],
    )
    async def test_what_is_no_such_message_is_refused(self, office: ServiceOffice, body: bytes) -> None:
        with pytest.raises(Permanent, match="no message of the incident's business rule"):
            await receive(office.endpoint, InboundMessage(headers={}, body=body))
