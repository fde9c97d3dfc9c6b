"""What people do in SAP comes back as a change of the ticket, once; what we did ourselves does not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from busbar.sdk import InboundMessage, Permanent, RemoteChange, execute, fetchval
from busbar_erp import documents, polling
from busbar_erp.inbound import receive
from busbar_erp.polling import poll
from busbar_erp.tests.conftest import ENDPOINT, Office
from busbar_erp.tests.golden import (
    BUY_TICKET,
    ORDER_TICKET,
    REQUISITION_ID,
    TICKET,
    incident_opened,
    order_completed,
    order_opened,
    requisition_approved,
    requisition_cancelled,
    ticket_update,
)

NOTIFICATION = {"MaintenanceNotification": "10000001"}
ITEM = {"PurchaseRequisition": "10000001", "PurchaseRequisitionItem": "00010"}


class Core:
    """The part of the core that polls: it takes each change once, and keeps the cursor with the changes."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.cursor: str | None = None

    async def poll(self, *, crash: bool = False) -> list[RemoteChange]:
        """What comes of one poll; `crash` loses it before the core has taken anything."""
        self.office.clock.move(60)
        polled = await poll(self.office.endpoint, self.cursor)
        assert all(change.marker for change in polled.changes)
        if crash:
            return []
        taken = []
        for change in polled.changes:
            if await self.take(f"poll:{change.remote_id}:{change.marker}"):
                taken.append(change)
        self.cursor = polled.cursor
        return taken

    async def take(self, message_id: str) -> bool:
        """Whether the core had not taken a message of that id before."""
        done = await execute(
            "insert into core.inbound_message (endpoint_id, message_id, received_at, outcome) "
            "values ($1, $2, now(), 'applied') on conflict do nothing",
            ENDPOINT,
            message_id,
        )
        return done == "INSERT 0 1"


@pytest.fixture
def core(office: Office) -> Core:
    return Core(office)


class TestPoll:
    async def test_a_completed_notification_closes_its_ticket(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        assert await core.poll() == []
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="4")
        [change] = await core.poll()
        assert (change.ticket_id, change.remote_id, change.status, change.comment) == (
            TICKET,
            "10000001",
            "Closed",
            None,
        )

    async def test_work_that_begins_in_sap_brings_the_ticket_in_progress(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="3")
        [change] = await core.poll()
        assert change.status == "In_Progress"

    async def test_a_postponed_notification_comes_back_as_a_comment(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="2")
        [change] = await core.poll()
        assert (change.status, change.comment) == (None, "Somebody in SAP: Notification 10000001 was postponed.")

    async def test_release_and_purchase_order_are_told_to_the_requisitions_ticket(
        self, office: Office, core: Core
    ) -> None:
        await office.deliver(requisition_approved())
        assert await core.poll() == []
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, PurReqnReleaseStatus="05")
        [released] = await core.poll()
        ordered = {"ProcessingStatus": "B", "PurchasingDocument": "4500000017", "PurchasingDocumentItem": "00010"}
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, **ordered)
        [order] = await core.poll()
        assert (released.ticket_id, released.status) == (BUY_TICKET, None)
        assert released.comment == "Somebody in SAP: Purchase requisition 10000001 was released."
        assert order.comment == (
            "Somebody in SAP: Purchase requisition 10000001 was ordered with purchase order 4500000017."
        )
        document = await documents.find(ENDPOINT, "requisition", REQUISITION_ID)
        assert document is not None
        assert document.purchase_order == "4500000017"

    @pytest.mark.parametrize(
        ("fields", "words"),
        [({"PurReqnReleaseStatus": "08"}, "The release of purchase req"), ({"IsDeleted": "X"}, "flagged for deletion")],
    )
    async def test_refusal_and_deletion_are_comments(
        self, office: Office, core: Core, fields: dict[str, str], words: str
    ) -> None:
        await office.deliver(requisition_approved())
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, **fields)
        [change] = await core.poll()
        assert change.comment is not None
        assert words in change.comment

    async def test_each_change_comes_once_however_often_is_asked(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="3")
        assert [len(await core.poll()) for _ in range(4)] == [1, 0, 0, 0]
        # An unrelated change of the same document says nothing new.
        office.simulator.change("MaintenanceNotification", NOTIFICATION, MaintNotificationCode="ELEC")
        assert await core.poll() == []

    async def test_a_document_may_come_to_the_same_state_again(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        told = []
        for phase in ("3", "4", "3", "4"):
            office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase=phase)
            told += [change.status for change in await core.poll()]
        assert told == ["In_Progress", "Closed", "In_Progress", "Closed"]

    async def test_a_poll_that_was_cut_off_tells_it_again(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="4")
        assert await core.poll(crash=True) == []
        [change] = await core.poll()
        assert change.status == "Closed"

    async def test_documents_of_others_are_left_alone(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        await execute("delete from erp.document")
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="4")
        assert await core.poll() == []

    async def test_many_changes_are_read_page_by_page(
        self, office: Office, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "PAGE", 3)
        for n in range(10):
            await office.deliver(incident_opened(ticket_id=f"TKT-PM-20261128-1{n:03d}"))
            office.clock.move(1)
        for n in range(10):
            key = {"MaintenanceNotification": str(10000001 + n)}
            office.simulator.change("MaintenanceNotification", key, NotifProcessingPhase="3")
            office.clock.move(1)
        told: list[str | None] = []
        for _ in range(4):
            told += [change.ticket_id for change in await core.poll()]
        assert sorted(filter(None, told)) == [f"TKT-PM-20261128-1{n:03d}" for n in range(10)]

    async def test_a_cursor_that_is_none_is_refused(self, office: Office) -> None:
        with pytest.raises(Permanent, match="cursor of the last poll cannot be read"):
            await poll(office.endpoint, "yesterday")


class TestEcho:
    async def test_our_own_steps_do_not_come_back(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        for version, status in enumerate(("Assigned", "In_Progress", "Closed"), start=2):
            await office.deliver(ticket_update(version, status))
            assert await core.poll() == []

    async def test_neither_does_what_sap_does_because_of_them(self, office: Office, core: Core) -> None:
        # An order puts its notification in process, and completes it.
        await office.deliver(order_opened())
        assert await core.poll() == []
        await office.deliver(order_completed())
        assert await core.poll() == []

    async def test_nor_a_requisition_that_we_called_off(self, office: Office, core: Core) -> None:
        await office.deliver(requisition_approved())
        await office.deliver(requisition_cancelled())
        assert await core.poll() == []

    async def test_nor_a_step_whose_answer_was_lost(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1, method="POST")
        with pytest.raises(Exception, match="no usable answer"):
            await office.deliver(ticket_update(4, "Closed"))
        assert office.notification()["NotifProcessingPhase"] == "4"
        assert await core.poll() == []

    async def test_what_is_told_back_of_a_change_leaves_sap_as_it_was(self, office: Office, core: Core) -> None:
        await office.deliver(incident_opened())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="3")
        [change] = await core.poll()
        await office.deliver(ticket_update(2, "Assigned", assignee=None))
        await office.deliver(ticket_update(3, str(change.status)))
        assert office.writes() == ["POST MaintenanceNotification", "CHANGE MaintenanceNotification"]
        assert await core.poll() == []

    async def test_people_may_undo_what_we_did(self, office: Office, core: Core) -> None:
        await office.deliver(order_opened())
        await office.deliver(order_completed())
        office.simulator.change("MaintenanceNotification", NOTIFICATION, NotifProcessingPhase="3")
        [change] = await core.poll()
        assert (change.ticket_id, change.status) == (ORDER_TICKET, "In_Progress")


class Inbox:
    """The receiving end: what the simulator's webhook says, as the connector reads it."""

    def __init__(self, office: Office, core: Core) -> None:
        self._office = office
        self._core = core
        self.got: list[InboundMessage] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(InboundMessage(headers=headers, body=await request.read()))
        return web.Response(status=204)

    async def changes(self, *, taken: bool = True) -> list[RemoteChange]:
        """What the messages since the last look say; `taken` by the core, or lost with it."""
        await self._office.simulator.webhooks.settle()
        got, self.got = self.got, []
        assert got, "no webhook came"
        found = []
        for message in got:
            found += await receive(self._office.endpoint, message)
            if taken:
                await self._core.take(message.headers["webhook-id"])
        return found


@pytest.fixture
async def inbox(office: Office, core: Core) -> AsyncIterator[Inbox]:
    inbox = Inbox(office, core)
    runner = web.ServerRunner(web.Server(inbox.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = "http://{}:{}/".format(*runner.addresses[0][:2])
    office.simulator.set_webhook(address, office.secrets["webhook_secret"], api_writes=True)
    yield inbox
    await runner.cleanup()


async def read(office: Office, body: Any) -> tuple[RemoteChange, ...]:
    """What the connector makes of a message that we wrote ourselves."""
    message = InboundMessage(headers={"webhook-id": "msg_1"}, body=json.dumps(body).encode())
    return await receive(office.endpoint, message)


class TestWebhook:
    async def test_a_change_by_a_buyer_is_told_with_the_name(self, office: Office, inbox: Inbox) -> None:
        await office.deliver(requisition_approved())
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, PurchasingDocument="4500000017")
        [change] = await inbox.changes()
        assert change.comment == (
            "BUYER01 in SAP: Purchase requisition 10000001 was ordered with purchase order 4500000017."
        )

    async def test_our_own_changes_are_dropped(self, office: Office, inbox: Inbox) -> None:
        await office.deliver(incident_opened())
        await office.deliver(ticket_update(3, "In_Progress"))
        assert await inbox.changes() == []

    async def test_what_a_webhook_told_is_not_told_again_by_the_poll(
        self, office: Office, core: Core, inbox: Inbox
    ) -> None:
        await office.deliver(requisition_approved())
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, PurReqnReleaseStatus="05")
        assert len(await inbox.changes()) == 1
        assert await core.poll() == []

    async def test_what_the_poll_told_is_not_told_again_by_a_late_webhook(
        self, office: Office, core: Core, inbox: Inbox
    ) -> None:
        await office.deliver(requisition_approved())
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, PurReqnReleaseStatus="05")
        assert len(await core.poll()) == 1
        assert await inbox.changes() == []

    async def test_a_webhook_that_was_lost_with_the_process_is_made_good_by_the_poll(
        self, office: Office, core: Core, inbox: Inbox
    ) -> None:
        await office.deliver(requisition_approved())
        office.simulator.change("A_PurchaseRequisitionItem", ITEM, PurReqnReleaseStatus="05")
        assert len(await inbox.changes(taken=False)) == 1
        assert len(await core.poll()) == 1

    async def test_a_document_of_nobody_is_dropped(self, office: Office) -> None:
        data = {**NOTIFICATION, "MaintNotifExtReferenceNumber": "BBUNKNOWN", "NotifProcessingPhase": "4"}
        assert await read(office, {"type": "notification.changed", "data": data}) == ()
        assert await read(office, {"type": "invoice.changed", "data": {}}) == ()
        assert await fetchval("select count(*) from erp.document") == 0

    @pytest.mark.parametrize(
        "body", [{"data": {}}, {"type": "notification.changed", "data": {"MaintenanceNotification": 7}}, []]
    )
    async def test_a_body_that_is_no_message_is_refused(self, office: Office, body: Any) -> None:
        with pytest.raises(Permanent, match="no message about a document of SAP"):
            await read(office, body)
