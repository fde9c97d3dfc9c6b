"""Remote systems that are asked what changed, because they send no webhooks."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from busbar.connectors import commands
from busbar.connectors.contract import Endpoint, Permanent, Polled, RemoteChange
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.poller import Poller
from busbar.connectors.secrets import Secret
from busbar.connectors.tests.support import ACME, CANARY, AcmeSettings, Remote, context, make_desk
from busbar.connectors.tests.test_inbound import TICKET, add_ticket, status_of
from busbar.db import end_tasks, execute, fetch, fetchval, spawn
from busbar.events.registry import REGISTRY, EventType
from busbar.tickets.commands import apply_remote_change
from busbar.tickets.events import TicketUpdated


class PolledSettings(AcmeSettings, frozen=True, kw_only=True):
    """Where the remote is, and how often it is asked."""

    poll_s: float = 0


class PolledRemote:
    """What a remote would answer, from the change after the cursor on."""

    def __init__(self) -> None:
        self.changes: list[RemoteChange] = []
        self.cursors: list[str | None] = []
        self.failure: Exception | None = None
        self.held: asyncio.Event | None = None

    async def poll(self, endpoint: Endpoint, cursor: str | None) -> Polled:
        self.cursors.append(cursor)
        if self.held is not None:
            await self.held.wait()
        if self.failure is not None:
            raise self.failure
        return Polled(changes=tuple(self.changes[int(cursor or 0) :]), cursor=str(len(self.changes)))


@pytest.fixture
def polled() -> PolledRemote:
    return PolledRemote()


@pytest.fixture
async def asking(desk: EndpointDesk, remote: Remote, polled: PolledRemote) -> AsyncIterator[EndpointDesk]:
    """A desk with the endpoint `acme-2`, which is asked every 50 ms, and a ticket that its remote calls REM-1."""
    if "TST_TICKET_UPDATED" not in REGISTRY:
        REGISTRY.register(EventType(name="TST_TICKET_UPDATED", module="tst", data=TicketUpdated))
    await add_ticket(TICKET)
    made = make_desk(connector=msgspec.structs.replace(ACME, settings=PolledSettings, poll=polled.poll))
    await commands.create_endpoint(
        context(),
        made,
        endpoint_id="acme-2",
        connector="acme",
        name="Acme",
        settings={"base_url": remote.url, "poll_s": 0.05},
        secrets={"token": Secret(CANARY)},
    )
    await execute(
        "insert into core.remote_reference (endpoint_id, subject, remote_id, marker, created_at) "
        "values ('acme-2', $1, 'REM-1', '7', now())",
        TICKET,
    )
    await made.refresh()
    yield made
    await made.close()


async def run_for(desk: EndpointDesk, polled: PolledRemote, *, polls: int) -> None:
    """Let a poller look until the remote was asked so often, and once more, so that the last answer was taken."""
    poller = Poller(desk, apply_remote_change)
    async with asyncio.timeout(30):
        while len(polled.cursors) < polls + 1:
            poller.look()
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await end_tasks(spawn(poller.run(), name="poller"))


CLOSED = RemoteChange(remote_id="REM-1", status="Closed", comment="done there", marker="8")


class TestAPoll:
    async def test_takes_each_change_once_and_goes_on_from_its_cursor(
        self, asking: EndpointDesk, polled: PolledRemote
    ) -> None:
        polled.changes.append(CLOSED)
        await run_for(asking, polled, polls=3)
        assert await status_of() == "Closed"
        assert polled.cursors[:2] == [None, "1"]
        notes = await fetch("select comment from core.audit where object_id = $1 and new_status = 'Closed'", TICKET)
        assert [row["comment"] for row in notes] == ["done there"]
        origins = await fetch("select distinct origin from core.event where subject = $1", TICKET)
        assert [row["origin"] for row in origins] == ["acme-2"]

    async def test_that_comes_by_a_change_again_applies_it_once(
        self, asking: EndpointDesk, polled: PolledRemote
    ) -> None:
        note = RemoteChange(remote_id="REM-1", comment="crew is on its way", marker="8")
        polled.changes.append(note)
        await run_for(asking, polled, polls=1)
        # As after a crash between the change and the cursor.
        await execute("delete from core.poll_cursor")
        await run_for(asking, polled, polls=4)
        assert await fetchval("select count(*) from core.audit where object_id = $1", TICKET) == 1

    async def test_drops_the_echo_of_our_own_change(self, asking: EndpointDesk, polled: PolledRemote) -> None:
        polled.changes.append(RemoteChange(remote_id="REM-1", status="Closed", marker="7"))
        await run_for(asking, polled, polls=2)
        assert await status_of() == "Open"

    async def test_that_fails_is_told_and_asks_again_from_the_same_place(
        self, asking: EndpointDesk, polled: PolledRemote
    ) -> None:
        polled.failure = Permanent(f"The token {CANARY} is not known here.")
        await run_for(asking, polled, polls=1)
        error = await fetchval("select last_error from core.job where name = 'poll:acme-2'")
        assert "is not known here" in error
        assert CANARY not in error
        polled.failure, polled.changes = None, [CLOSED]
        await run_for(asking, polled, polls=len(polled.cursors) + 1)
        assert await status_of() == "Closed"
        assert await fetchval("select last_error from core.job where name = 'poll:acme-2'") is None

    async def test_runs_in_one_process_at_a_time(self, asking: EndpointDesk, polled: PolledRemote) -> None:
        polled.held = asyncio.Event()
        first, second = Poller(asking, apply_remote_change), Poller(asking, apply_remote_change)
        for _ in range(20):
            first.look()
            second.look()
            await asyncio.sleep(0.01)
        assert polled.cursors == [None]
        polled.held.set()
        for poller in (first, second):
            await end_tasks(spawn(poller.run(), name="poller"))

    async def test_is_forgotten_once_nobody_wants_it(self, asking: EndpointDesk, polled: PolledRemote) -> None:
        await run_for(asking, polled, polls=1)
        assert await fetchval("select count(*) from core.job where name = 'poll:acme-2'") == 1
        await commands.change_endpoint(context(), asking, "acme-2", commands.Changes(active=False))
        await asking.refresh()
        task = spawn(Poller(asking, apply_remote_change).run(), name="poller")
        async with asyncio.timeout(30):
            while await fetchval("select count(*) from core.job where name = 'poll:acme-2'"):
                await asyncio.sleep(0.02)
        await end_tasks(task)

    async def test_goes_on_when_camel_delivers(self, asking: EndpointDesk, polled: PolledRemote) -> None:
        asking.brokered = True
        await commands.change_endpoint(context(), asking, "acme-2", commands.Changes(runner="camel"))
        await asking.refresh()
        await run_for(asking, polled, polls=1)
        assert polled.cursors[0] is None

    async def test_is_left_out_while_the_setting_is_zero(self, asking: EndpointDesk, polled: PolledRemote) -> None:
        settings = commands.Changes(settings={"base_url": "http://127.0.0.1:1", "poll_s": 0})
        await commands.change_endpoint(context(), asking, "acme-2", settings)
        await asking.refresh()
        poller = Poller(asking, apply_remote_change)
        poller.look()
        await asyncio.sleep(0.1)
        assert polled.cursors == []


class TestADeclaration:
    def test_of_a_connector_that_polls_without_the_setting_is_refused(self, polled: PolledRemote) -> None:
        with pytest.raises(ValueError, match="poll_s"):
            msgspec.structs.replace(ACME, poll=polled.poll)
