"""Webhooks from a remote system: who is believed, and what becomes of their tickets."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from busbar.connectors import commands
from busbar.connectors.commands import Changes
from busbar.connectors.contract import Connector, Endpoint, InboundMessage, Permanent, RemoteChange, Retryable
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.secrets import Secret
from busbar.connectors.signature import new_signing_secret, sign
from busbar.connectors.tests.support import ACME, context, make_desk
from busbar.connectors.tests.web import Site, serving
from busbar.db import execute, fetch, fetchval
from busbar.events.registry import REGISTRY, EventType
from busbar.kit.clock import utc_now
from busbar.tickets.events import TicketUpdated

SIGNING = new_signing_secret()
TICKET = "TKT-TST-20261123-0001"


@pytest.fixture
async def site(desk: EndpointDesk) -> AsyncIterator[Site]:
    """The application with a ticket that the endpoint's remote calls REM-1."""
    if "TST_TICKET_UPDATED" not in REGISTRY:
        REGISTRY.register(EventType(name="TST_TICKET_UPDATED", module="tst", data=TicketUpdated))
    await commands.change_endpoint(context(), desk, "acme-1", Changes(secrets={"webhook_secret": SIGNING}))
    await desk.refresh()
    await add_ticket(TICKET)
    await execute(
        "insert into core.remote_reference (endpoint_id, subject, remote_id, marker, created_at) "
        "values ('acme-1', $1, 'REM-1', '7', now())",
        TICKET,
    )
    async with serving(desk) as running:
        yield running


async def add_ticket(ticket_id: str, *, site_id: str = "north", status: str = "Open") -> None:
    await execute(
        "insert into core.ticket (ticket_id, module, ticket_type, title, priority, status, site_id, created_by, "
        "created_at, updated_at, sla_deadline, correlation_id) "
        "values ($1, 'tst', 'Incident', 'Fault', 'P1', $2, $3, 'anna', now(), now(), now(), 'c-1')",
        ticket_id,
        status,
        site_id,
    )


async def send(
    site: Site,
    *changes: dict[str, Any],
    message_id: str = "msg_1",
    secret: Secret = SIGNING,
    endpoint_id: str = "acme-1",
    age: timedelta = timedelta(0),
    body: bytes | None = None,
    signed_body: bytes | None = None,
    more_headers: tuple[tuple[str, str], ...] = (),
) -> httpx.Response:
    content = msgspec.json.encode({"changes": changes}) if body is None else body
    signed = sign(secrets=[secret], message_id=message_id, at=utc_now() - age, body=signed_body or content)
    headers = [*signed.items(), ("content-type", "application/json"), *more_headers]
    return await site.client.post(f"/inbound/{endpoint_id}", content=content, headers=headers)


async def status_of(ticket_id: str = TICKET) -> str:
    status: str = await fetchval("select status from core.ticket where ticket_id = $1", ticket_id)
    return status


CLOSED = {"remote_id": "REM-1", "status": "Closed", "comment": "fuse replaced"}


class TestASignedMessage:
    async def test_walks_the_ticket_as_the_endpoint_and_tells_of_it(self, site: Site) -> None:
        answer = await send(site, CLOSED)
        assert (answer.status_code, answer.json()) == (200, {"outcome": f"applied: {TICKET} Closed"})
        assert await status_of() == "Closed"
        trail = await fetch("select * from core.audit where object_id = $1 order by audit_id", TICKET)
        assert [(row["previous_status"], row["new_status"]) for row in trail] == [
            ("Open", "Assigned"),
            ("Assigned", "In_Progress"),
            ("In_Progress", "Closed"),
        ]
        assert {(row["actor_id"], row["comment"]) for row in trail} == {("endpoint:acme-1", "fuse replaced")}
        origins = await fetch("select distinct origin, correlation_id from core.event where subject = $1", TICKET)
        assert [row["origin"] for row in origins] == ["acme-1"]
        assert origins[0]["correlation_id"] == answer.headers["x-correlation-id"]

    async def test_finds_the_ticket_by_its_own_id_and_learns_the_remotes(self, site: Site) -> None:
        await add_ticket("TKT-TST-20261123-0002")
        change = {"remote_id": "REM-2", "ticket_id": "TKT-TST-20261123-0002", "status": "Assigned"}
        assert (await send(site, change)).status_code == 200
        assert await status_of("TKT-TST-20261123-0002") == "Assigned"
        answer = await send(site, {"remote_id": "REM-2", "status": "In_Progress"}, message_id="msg_2")
        assert answer.json()["outcome"] == "applied: TKT-TST-20261123-0002 In_Progress"

    async def test_that_only_says_something_leaves_a_note(self, site: Site) -> None:
        answer = await send(site, {"remote_id": "REM-1", "comment": "crew is on its way"})
        assert answer.status_code == 200
        assert await status_of() == "Open"
        assert await fetchval("select comment from core.audit where object_id = $1", TICKET) == "crew is on its way"

    async def test_may_hold_characters_that_the_database_refuses(self, site: Site, desk: EndpointDesk) -> None:
        async def receive(endpoint: Endpoint, message: InboundMessage) -> tuple[RemoteChange, ...]:
            return (RemoteChange(remote_id="REM-1", status="Assigned", comment="a\x00b\ud800c"),)

        other = make_desk(connector=msgspec.structs.replace(ACME, receive=receive))
        async with serving(other) as odd:
            assert (await send(odd)).status_code == 200
        await other.close()
        assert await fetchval("select comment from core.audit where object_id = $1", TICKET) == "ab?c"

    async def test_may_hold_several_changes(self, site: Site) -> None:
        answer = await send(site, {"remote_id": "REM-9", "status": "Closed"}, CLOSED)
        assert answer.status_code == 200
        assert answer.json()["outcome"] == f"ignored: REM-9 belongs to no ticket; applied: {TICKET} Closed"


class TestARepeatedMessage:
    async def test_has_one_effect_and_the_same_answer(self, site: Site) -> None:
        first = await send(site, {"remote_id": "REM-1", "comment": "hello"})
        second = await send(site, {"remote_id": "REM-1", "comment": "hello"})
        assert (first.status_code, first.json()) == (second.status_code, second.json())
        assert await fetchval("select count(*) from core.audit where object_id = $1", TICKET) == 1
        assert await fetchval("select count(*) from core.inbound_message") == 1

    async def test_has_one_effect_when_all_copies_come_at_once(self, site: Site) -> None:
        answers = await asyncio.gather(*[send(site, {"remote_id": "REM-1", "comment": "hello"}) for _ in range(6)])
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (200, f'{{"outcome":"applied: {TICKET} noted"}}')
        }
        assert await fetchval("select count(*) from core.audit where object_id = $1", TICKET) == 1

    async def test_of_which_the_first_failed_half_way_is_taken(self, desk: EndpointDesk, site: Site) -> None:
        async def fail(ctx: Any, ticket_id: str, *, status: str | None, comment: str | None) -> int:
            await execute("update core.ticket set title = 'half' where ticket_id = $1", ticket_id)
            raise RuntimeError("the process dies")

        async with serving(desk, apply_change=fail) as broken:
            assert (await send(broken, CLOSED)).status_code == 500
        assert await fetchval("select title from core.ticket where ticket_id = $1", TICKET) == "Fault"
        assert await fetchval("select count(*) from core.inbound_message") == 0
        assert (await send(site, CLOSED)).json()["outcome"] == f"applied: {TICKET} Closed"


class TestAStranger:
    async def test_is_not_believed(self, site: Site) -> None:
        content = msgspec.json.encode({"changes": [CLOSED]})
        good = sign(secrets=[SIGNING], message_id="msg_1", at=utc_now(), body=content)
        refused = [
            await site.client.post("/inbound/acme-1", content=content),
            await send(site, CLOSED, secret=new_signing_secret()),
            await send(site, CLOSED, signed_body=b"something else"),
            await send(site, CLOSED, age=timedelta(minutes=6)),
            await send(site, CLOSED, age=timedelta(minutes=-6)),
            await send(site, CLOSED, more_headers=(("webhook-id", "msg_2"),)),
            await send(site, CLOSED, more_headers=tuple(good.items())),
            await site.client.post("/inbound/acme-1", content=content, headers=good | {"webhook-id": "msg_2"}),
        ]
        assert [answer.status_code for answer in refused] == [401] * len(refused)
        assert await status_of() == "Open"
        assert await fetchval("select count(*) from core.inbound_message") == 0

    async def test_does_not_learn_which_endpoints_there_are(self, site: Site, desk: EndpointDesk) -> None:
        stranger = new_signing_secret()
        unknown = await send(site, CLOSED, endpoint_id="acme-99", secret=stranger)
        known = await send(site, CLOSED, secret=stranger)
        await commands.change_endpoint(context(), desk, "acme-1", Changes(active=False))
        off = await send(site, CLOSED, secret=SIGNING)
        change = Changes(active=True, secrets={"webhook_secret": None})
        await commands.change_endpoint(context(), desk, "acme-1", change)
        closed = await send(site, CLOSED, secret=SIGNING)

        def seen(answer: httpx.Response) -> dict[str, Any]:
            body: dict[str, Any] = answer.json()
            return {name: body[name] for name in ("status", "code", "title", "detail")}

        assert seen(unknown) == seen(known) == seen(closed) == seen(off)
        assert unknown.status_code == 401

    async def test_cannot_send_more_than_a_mebibyte(self, site: Site) -> None:
        answer = await send(site, body=b'"' + b"x" * 1_048_576 + b'"')
        assert answer.status_code == 413

    async def test_stays_out_after_the_secret_was_changed(self, site: Site, desk: EndpointDesk) -> None:
        fresh = new_signing_secret()
        both = Secret(f"{SIGNING.reveal()} {fresh.reveal()}")
        await commands.change_endpoint(context(), desk, "acme-1", Changes(secrets={"webhook_secret": both}))
        assert (await send(site, CLOSED, message_id="msg_a")).status_code == 200
        assert (await send(site, CLOSED, message_id="msg_b", secret=fresh)).status_code == 200
        await commands.change_endpoint(context(), desk, "acme-1", Changes(secrets={"webhook_secret": fresh}))
        assert (await send(site, CLOSED, message_id="msg_c")).status_code == 401


class TestWhatIsNotForUs:
    async def test_an_echo_of_our_own_change_is_dropped(self, site: Site) -> None:
        answer = await send(site, CLOSED | {"marker": "7"})
        assert answer.status_code == 202
        assert answer.json()["outcome"] == f"ignored: the echo of our own change of {TICKET}"
        assert await status_of() == "Open"
        assert (await send(site, CLOSED | {"marker": "8"}, message_id="msg_2")).status_code == 200
        assert await status_of() == "Closed"

    async def test_a_ticket_that_nobody_knows_is_recorded_and_ignored(self, site: Site) -> None:
        for number, change in enumerate(
            (
                {"remote_id": "REM-9", "status": "Closed"},
                {"remote_id": "REM-9", "ticket_id": "TKT-X", "status": "Closed"},
            )
        ):
            answer = await send(site, change, message_id=f"msg_{number}")
            assert answer.status_code == 202
            assert answer.json()["outcome"].startswith("ignored: ")
        assert await fetchval("select count(*) from core.inbound_message where outcome like 'ignored: %'") == 2
        assert await fetchval("select count(*) from core.remote_reference") == 1

    async def test_a_ticket_of_another_site_does_not_exist_for_it(self, site: Site, desk: EndpointDesk) -> None:
        await commands.change_endpoint(context(), desk, "acme-1", Changes(sites=("south",)))
        answer = await send(site, CLOSED)
        assert answer.status_code == 202
        assert await status_of() == "Open"

    async def test_an_empty_message_is_fine(self, site: Site) -> None:
        assert (await send(site)).status_code == 202

    async def test_a_move_that_the_life_cycle_forbids_is_refused_once_and_for_all(self, site: Site) -> None:
        await execute("update core.ticket set status = 'Cancelled'")
        answer = await send(site, CLOSED)
        assert answer.status_code == 200
        assert answer.json()["outcome"].startswith("refused: ")
        again = await send(site, CLOSED)
        assert (again.status_code, again.json()) == (200, answer.json())
        assert await status_of() == "Cancelled"
        assert await fetchval("select count(*) from core.audit where object_id = $1", TICKET) == 0

    async def test_what_came_in_is_listed_newest_first(self, site: Site) -> None:
        await send(site, CLOSED | {"marker": "7"}, message_id="msg_1")
        await send(site, CLOSED, message_id="msg_2")
        await site.sign_in("boss")
        page = (await site.client.get("/endpoints/acme-1/inbound", params={"limit": 1})).json()
        assert (page["total"], page["items"][0]["message_id"]) == (2, "msg_2")
        rest = (await site.client.get("/endpoints/acme-1/inbound", params={"cursor": page["next"]})).json()
        assert [item["message_id"] for item in rest["items"]] == ["msg_1"]


class TestAMessageThatCannotBeRead:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (KeyError("changes"), 422),
            (Permanent("There is no such table."), 422),
            (Retryable("The remote is away."), 503),
            (TimeoutError(), 503),
        ],
    )
    async def test_is_not_recorded_so_that_it_may_come_again(
        self, site: Site, desk: EndpointDesk, error: Exception, status: int
    ) -> None:
        async def receive(endpoint: Endpoint, message: InboundMessage) -> tuple[RemoteChange, ...]:
            raise error

        connector: Connector = msgspec.structs.replace(ACME, receive=receive)
        other = make_desk(connector=connector)
        async with serving(other) as broken:
            answer = await send(broken, CLOSED)
        await other.close()
        assert answer.status_code == status
        assert await fetchval("select count(*) from core.inbound_message") == 0
        assert (await send(site, CLOSED)).status_code == 200

    async def test_of_a_quarantined_plugin_is_asked_for_again(self, site: Site) -> None:
        other = make_desk(quarantined=lambda name: True)
        async with serving(other) as waiting:
            answer = await send(waiting, CLOSED)
        await other.close()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "60"
