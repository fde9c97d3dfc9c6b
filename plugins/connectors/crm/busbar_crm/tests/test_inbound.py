"""What the service team changes comes back as a change of the ticket, and our own changes do not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from busbar.sdk import InboundMessage, Permanent, RemoteChange
from busbar_crm.inbound import receive
from busbar_crm.tests.conftest import ServiceOffice
from busbar_crm.tests.golden import TICKET, golden, ticket_update

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoaXJ0eS10d28gYnl0ZXMsIG9rIQ=="
AGENT = "service.agent@utility.example"
CREATED = golden("ticket_created")


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

    async def after(self, comment: str = "", **fields: Any) -> list[RemoteChange]:
        """What comes of a change by a service agent."""
        self._office.simulator.change(external_id=TICKET, fields=fields, comment=comment)
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


async def read(office: ServiceOffice, kind: str = "case.updated", **data: Any) -> tuple[RemoteChange, ...]:
    """What the connector makes of a message that we wrote ourselves."""
    plain = {"id": "500BB0000000001YAA", "busbar_id": TICKET, "case_number": "00001001", "changed_by": AGENT}
    body = json.dumps({"type": kind, "timestamp": "2026-11-23T09:30:00Z", "data": {**plain, **data}}).encode()
    return await receive(office.endpoint, InboundMessage(headers={}, body=body))


class TestServiceTeam:
    async def test_taking_up_a_case_brings_the_ticket_in_progress(self, office: ServiceOffice, inbox: Inbox) -> None:
        assert await inbox.after(Status="Working") == [
            RemoteChange(remote_id=office.case()["Id"], ticket_id=TICKET, status="In_Progress")
        ]

    async def test_a_comment_comes_with_its_author(self, office: ServiceOffice, inbox: Inbox) -> None:
        assert await inbox.after(comment="Ask the plant first") == [
            RemoteChange(
                remote_id=office.case()["Id"],
                ticket_id=TICKET,
                comment=f"{AGENT} in Salesforce: Ask the plant first",
            )
        ]

    async def test_a_closed_case_closes_the_ticket(self, inbox: Inbox) -> None:
        [change] = await inbox.after(Status="Closed")
        assert (change.status, change.comment) == ("Closed", None)

    async def test_a_status_of_its_own_for_cancelled_cancels(self, office: ServiceOffice, inbox: Inbox) -> None:
        office.configure(status_cancelled="Escalated")
        [change] = await inbox.after(Status="Escalated")
        assert change.status == "Cancelled"

    @pytest.mark.parametrize("status", ["Escalated", "New"])
    async def test_a_status_that_no_ticket_has_comes_back_as_a_comment(self, inbox: Inbox, status: str) -> None:
        await inbox.after(Status="Working")
        [change] = await inbox.after(Status=status)
        assert (change.status, change.comment) == (None, f"{AGENT} in Salesforce: The Case was set to {status}.")

    async def test_a_deleted_case_is_noted(self, office: ServiceOffice, inbox: Inbox) -> None:
        office.simulator.change(external_id=TICKET, delete=True)
        [change] = await inbox.changes()
        assert (change.status, change.comment) == (None, "The Case 00001001 was deleted in Salesforce.")

    async def test_what_says_nothing_to_busbar_is_dropped(self, inbox: Inbox) -> None:
        assert await inbox.after(Type="Other") == []


class TestEcho:
    @pytest.mark.parametrize("status", ["Assigned", "In_Progress", "Closed", "Cancelled"])
    async def test_our_own_changes_and_comments_are_dropped(
        self, office: ServiceOffice, inbox: Inbox, status: str
    ) -> None:
        await office.deliver(ticket_update(2, status, comment="Told by Busbar"))
        assert await inbox.changes() == []

    async def test_our_late_comments_are_dropped(self, office: ServiceOffice, inbox: Inbox) -> None:
        await office.deliver(golden("approval_completed"))
        await office.deliver(golden("approval_requested"))
        assert await inbox.changes() == []

    async def test_our_own_creation_is_dropped(self, office: ServiceOffice, inbox: Inbox) -> None:
        await office.deliver(golden("cost_posted"))
        assert await inbox.changes() == []

    async def test_whatever_the_integration_user_does_is_our_own(self, office: ServiceOffice) -> None:
        office.configure(username="busbar.integration@utility.example")
        by = "Busbar.Integration@utility.example"
        assert await read(office, status="Closed", changed=["Status"], changed_by=by) == ()

    async def test_what_is_told_back_of_a_change_leaves_the_case_as_it_was(
        self, office: ServiceOffice, inbox: Inbox
    ) -> None:
        [change] = await inbox.after(Status="Working")
        await office.deliver(ticket_update(2, str(change.status)))
        assert office.case()["Status"] == "Working"
        assert await inbox.changes() == []


class TestMessage:
    async def test_control_characters_do_not_get_through(self, office: ServiceOffice) -> None:
        [change] = await read(office, "case.commented", comment="a\x00b\x1b[31m\tc")
        assert change.comment == f"{AGENT} in Salesforce: ab[31m\tc"

    async def test_a_long_comment_is_cut(self, office: ServiceOffice) -> None:
        [change] = await read(office, "case.commented", comment="x" * 100_000)
        assert change.comment is not None
        assert len(change.comment) == 4000

    async def test_a_new_case_with_our_id_is_not_ours(self, office: ServiceOffice) -> None:
        assert await read(office, "case.created", status="Closed", changed=["Status"]) == ()

    async def test_an_unchanged_status_moves_nothing(self, office: ServiceOffice) -> None:
        assert await read(office, status="Closed", changed=["Subject"]) == ()

    @pytest.mark.parametrize("key", ["", "BUDGET-CC-4100", "TKT-FI-1-1", TICKET + "x"])
    async def test_cases_that_are_no_tickets_are_left_alone(self, office: ServiceOffice, key: str) -> None:
        assert await read(office, busbar_id=key, status="Closed", changed=["Status"]) == ()

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b'{"type": 5}', b'{"type": "case.updated", "data": {}}', b"\xff", b"[" * 100_000],
        ids=["empty", "array", "no text", "no id", "no UTF-8", "deep nesting"],
    )
    async def test_what_is_no_such_message_is_refused(self, office: ServiceOffice, body: bytes) -> None:
        with pytest.raises(Permanent, match="no message of the Case's trigger"):
            await receive(office.endpoint, InboundMessage(headers={}, body=body))
