"""The Mule application's scripts, run by MuleSoft's own engine on what Busbar really sends and takes."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import pytest_asyncio
from standardwebhooks import Webhook

from busbar.bus.topology import EVENTS
from busbar.connectors.secrets import Secret
from busbar.connectors.signature import sign
from busbar.testing.app import RunningApp, running_app
from busbar.testing.broker import TestBroker
from busbar.testing.database import TestServer
from busbar.tests.dataweave_engine import Bytes, Outcome, evaluate
from busbar.tests.mule_files import expressions, properties, script
from busbar.tests.test_mulesoft_files import PLAIN

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
BODY = '{"type": "PM_TICKET_CREATED",  "data": {"text": "Kabel beschädigt"}, "amount": 1.10}'.encode()
ALARM = {
    "alarm_id": "SCADA-2026-77",
    "equipment": "TRF-MULE",
    "kind": "trip",
    "priority": "MAJOR",
    "text": "Buchholz relay tripped",
    "raised_at": "2026-11-20T08:15:00Z",
}


async def run(*runs: tuple[str, dict[str, Any]], **known: str) -> list[Outcome]:
    return await asyncio.to_thread(
        evaluate, runs, properties={name.replace("__", "::"): v for name, v in known.items()}
    )


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    """Headers as the reference library makes them."""
    moment = at or datetime.now(UTC)
    headers = {"webhook-id": "019ab0c4-7d2e_4711", "webhook-timestamp": str(int(moment.timestamp()))}
    return headers | {"webhook-signature": Webhook(secret).sign(headers["webhook-id"], moment, body.decode())}


async def verdicts(*messages: tuple[dict[str, str], bytes], secrets: str = SECRET) -> list[Any]:
    """What the script says of each message: true, false, or an error."""
    source = script("webhook-is-genuine")
    runs = [(source, {"attributes": {"headers": headers}, "payload": Bytes(body)}) for headers, body in messages]
    known = {"secure::busbar.webhook.secrets": secrets}
    return [each.error or each.value for each in await asyncio.to_thread(evaluate, runs, properties=known)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(postgres: TestServer, rabbitmq: TestBroker) -> AsyncIterator[RunningApp]:
    """A platform whose events are on a real bus."""
    vhost = await rabbitmq.create_vhost()
    try:
        async with running_app(postgres, amqp_url=rabbitmq.url_of(vhost)) as running:
            yield running
    finally:
        await rabbitmq.drop_vhost(vhost)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asset(app: RunningApp) -> str:
    new = {"asset_id": ALARM["equipment"], "name": "T", "asset_type": "transformer", "site": "a"}
    await (await app.client()).post("/pm/assets", new)
    return ALARM["equipment"]


class TestWebhookSignature:
    async def test_of_the_reference_library_and_of_busbar_is_taken(self) -> None:
        ours = sign(secrets=[Secret(SECRET)], message_id="019ab0c4-7d2e_4711", at=datetime.now(UTC), body=BODY)
        assert await verdicts((signed(), BODY), (ours, BODY)) == [True, True]

    async def test_is_one_of_several_while_the_secret_is_being_changed(self) -> None:
        both = sign(secrets=[Secret(OTHER), Secret(SECRET)], message_id="m_1", at=datetime.now(UTC), body=BODY)
        assert both["webhook-signature"].count("v1,") == 2
        assert await verdicts((both, BODY), (signed(), BODY)) == [True, True]
        assert await verdicts((signed(), BODY), (signed(secret=OTHER), BODY), secrets=f"{OTHER} {SECRET}") == [
            True,
            True,
        ]

    async def test_of_anything_else_is_not(self) -> None:
        old, early = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (-400, 400))
        good = signed()
        forged: list[tuple[dict[str, str], bytes]] = [
            (signed(secret=OTHER), BODY),
            (good, BODY + b" "),
            (good, json.dumps(json.loads(BODY)).encode()),
            (good, b""),
            (good | {"webhook-id": "another"}, BODY),
            (good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, BODY),
            (signed(at=old), BODY),
            (signed(at=early), BODY),
            (good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v1a,")}, BODY),
            (good | {"webhook-signature": ""}, BODY),
            (good | {"webhook-timestamp": "soon"}, BODY),
            (good | {"webhook-id": "a.b"}, BODY),
            ({}, BODY),
        ]
        forged += [({name: value for name, value in good.items() if name != left_out}, BODY) for left_out in good]
        assert await verdicts(*forged) == [False] * len(forged)

    async def test_without_a_secret_nothing_is_taken(self) -> None:
        (verdict,) = await verdicts((signed(), BODY), secrets="")
        assert verdict is not True


class TestAnAlarm:
    async def test_becomes_an_incident_that_busbar_takes_once(self, app: RunningApp, asset: str) -> None:
        incident, key, again, other = await run(
            (script("alarm-to-incident"), {"payload": ALARM}),
            (script("idempotency-key"), {"payload": ALARM}),
            (script("idempotency-key"), {"payload": ALARM | {"text": "Sent again"}}),
            (script("idempotency-key"), {"payload": ALARM | {"alarm_id": "SCADA-2026-78"}}),
        )
        assert (again, other) == (key, other)
        assert other != key
        admin = await app.client()
        headers = {"Idempotency-Key": key.value}
        opened = [await admin.send("POST", "/pm/incidents", incident.value, headers=headers) for _ in range(2)]
        assert [answer.status for answer in opened] == [201, 201], opened[0]
        assert opened[0].body == opened[1].body
        (found,) = (await admin.get(f"/pm/incidents?asset_id={asset}"))["items"]
        assert (found["fault_type"], found["severity"]) == ("outage", "P2")

    async def test_of_which_little_is_known_still_becomes_one(self, app: RunningApp, asset: str) -> None:
        scant = {"alarm_id": "SCADA-2026-79", "equipment": asset, "text": "?", "kind": "new kind"}
        (incident,) = await run((script("alarm-to-incident"), {"payload": scant}))
        assert (incident.value["fault_type"], incident.value["severity"]) == ("fault", "P3")
        await (await app.client()).post("/pm/incidents", incident.value)


class TestAnEvent:
    async def test_from_the_queue_of_the_peer_becomes_a_task(self, app: RunningApp, asset: str) -> None:
        assert app.platform.settings.amqp_url is not None
        connection = await aio_pika.connect(app.platform.settings.amqp_url)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(properties(PLAIN)["busbar.amqp.queue"], durable=True)
            await queue.bind(EVENTS, "#")
            report = {"asset_id": asset, "fault_type": "fault", "severity": "P3", "description": "Oil leak"}
            ticket = (await (await app.client()).post("/pm/incidents", report))["ticket_id"]
            message = await self._about(queue, ticket)
        (task,) = await run((script("event-to-task"), {"payload": json.loads(message.body)}))
        # The flow takes the message's id for the event's.
        assert task.value["id"] == message.message_id
        assert (task.value["what"], task.value["about"], task.value["site"]) == ("PM_TICKET_CREATED", ticket, "a")
        assert task.value["correlation_id"] == message.correlation_id

    @staticmethod
    async def _about(queue: aio_pika.abc.AbstractQueue, ticket: str) -> aio_pika.abc.AbstractIncomingMessage:
        async with asyncio.timeout(30), queue.iterator(no_ack=True) as messages:
            async for message in messages:
                if json.loads(message.body)["subject"] == ticket:
                    return message
        raise AssertionError("the queue ended")

    async def test_from_a_webhook_becomes_the_same_task(self) -> None:
        words = {"id": "1", "type": "T", "subject": "s", "site": "a", "data": {"n": 1}}
        as_event = words | {"time": "2026-11-28T10:00:00Z", "correlationid": "c"}
        as_webhook = words | {"timestamp": "2026-11-28T10:00:00Z", "correlation_id": "c"}
        tasks = await run(*((script("event-to-task"), {"payload": each}) for each in (as_event, as_webhook)))
        assert tasks[0] == tasks[1]
        assert tasks[0].value["at"] == "2026-11-28T10:00:00Z"


class TestFlowFile:
    async def test_has_expressions_that_all_come_to_a_value(self) -> None:
        inputs = {
            "payload": {"what": "W", "about": "A", "correlation_id": "c", "type": "busbar.ping", "access_token": "t"},
            "attributes": {"ackId": "1", "properties": {"messageId": "m"}, "headers": {"webhook-id": "w"}},
            "vars": {
                "token": "t",
                "idempotencyKey": "k",
                "ackId": "1",
                "eventId": "m",
                "incident": {},
                "genuine": True,
            },
        }
        found = list(expressions())
        assert len(found) > 15
        runs = [(text, inputs | ({"payload": Bytes(b'{"a": 1}')} if "read(payload" in text else {})) for text in found]
        known = {"busbar.api.username": "mule", "secure::busbar.api.password": "secret"}
        outcomes = await asyncio.to_thread(evaluate, runs, properties=known)
        assert [(text, each.error) for text, each in zip(found, outcomes, strict=True) if each.error] == []
        login = next(each.value for text, each in zip(found, outcomes, strict=True) if "password" in text)
        assert login == {"username": "mule", "password": "secret"}
        sent = next(each.value for text, each in zip(found, outcomes, strict=True) if "Idempotency-Key" in text)
        assert sent == {"Authorization": "Bearer t", "Content-Type": "application/json", "Idempotency-Key": "k"}
