"""A peer of Camel on the bus: it hands over as Busbar does, and reads what Camel tells."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractQueue

from acceptance.test_chain import until

OURS = 900_000_000_000_000_000
"""The ids of our deliveries are greater; Busbar's are not."""


class Bus:
    """A peer that hands over as Busbar does, and reads what Camel tells."""

    def __init__(self, handover: AbstractExchange, told: AbstractQueue, dead: AbstractQueue) -> None:
        self._handover, self._told, self._dead = handover, told, dead

    async def hand_over(self, kind: str, body: bytes) -> None:
        message = aio_pika.Message(body, correlation_id="a-peer", delivery_mode=DeliveryMode.PERSISTENT)
        await self._handover.publish(message, routing_key=f"camel.{kind}.any")

    async def outcome(self) -> dict[str, Any]:
        """The next one of a message of ours; persistent, and by Camel."""
        while True:
            message = await _next(self._told, what="an outcome")
            assert message.headers["busbar-runner"] == "camel"
            assert message.delivery_mode == DeliveryMode.PERSISTENT
            told: dict[str, Any] = json.loads(message.body)
            if int(told["delivery_id"]) >= OURS:
                return told

    async def dead_letter(self) -> bytes:
        return (await _next(self._dead, what="a dead letter")).body


async def _next(queue: AbstractQueue, *, what: str) -> AbstractIncomingMessage:
    async def ask() -> Any:
        return await queue.get(no_ack=True, fail=False)

    found: AbstractIncomingMessage = await until(ask, what=what)
    return found


@asynccontextmanager
async def peer(url: str) -> AsyncIterator[Bus]:
    """A peer at the broker with this address, for the time of the block."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        told = await channel.declare_queue("busbar.peer.test.outcomes", auto_delete=True)
        await told.bind("busbar.outcomes", "camel")
        dead = await channel.get_queue("busbar.dead")
        yield Bus(await channel.get_exchange("busbar.handover"), told, dead)


def handed_over(number: int, kind: str, composed: dict[str, Any], *, endpoint: str | None = None) -> bytes:
    """A message in the form of docs/how-to/run-camel.md."""
    named = {"endpoint_id": endpoint or f"{kind}-camel", "kind": kind, "name": kind}
    body = {
        "delivery_id": str(OURS + number),
        "attempt": 1,
        "first": True,
        "endpoint": named,
        "event": {},
        "document": None,
    }
    return json.dumps({**body, "remote_id": None, "composed": composed}).encode()


def record_of(ticket_id: str) -> dict[str, Any]:
    path = "/api/now/table/incident"
    display = {"correlation_id": ticket_id, "correlation_display": "Busbar v1 - a-peer"}
    return {
        "operation": "tell_record",
        "ticket_id": ticket_id,
        "known": None,
        "look": {"path": path, "query": {"sysparm_query": f"correlation_id={ticket_id}"}},
        "marker": {
            "field": "correlation_display",
            "version": 1,
            "facts_at": "",
            "correlation_id": "a-peer",
            "characters_max": 100,
        },
        "create": {"path": path, "query": {}, "body": {"short_description": "Twice", **display}},
        "change": {"path": f"{path}/{{sys_id}}", "query": {}, "body": {}, "ticket": {"state": "2"}, "facts": {}},
    }


def cancellation(reference: str) -> dict[str, Any]:
    """That a stock transaction takes an earlier one back, as the connector says it."""
    service = "/sap/opu/odata/sap/API_MATERIAL_DOCUMENT_SRV"
    year, number = "{MaterialDocumentYear}", "{MaterialDocument}"
    reversed_one = f"ReversedMaterialDocumentYear eq '{year}' and ReversedMaterialDocument eq '{number}'"
    named = {"MaterialDocumentYear": f"'{year}'", "MaterialDocument": f"'{number}'"}
    return {
        "operation": "cancel",
        "token": {"path": f"{service}/"},
        "original": {
            "path": f"{service}/A_MaterialDocumentHeader",
            "query": {"$filter": f"ReferenceDocument eq '{reference}'", "$top": "1"},
        },
        "missing": "It is not there.",
        "look": {"path": f"{service}/A_MaterialDocumentItem", "query": {"$filter": reversed_one, "$top": "1"}},
        "found": ["MaterialDocumentYear", "MaterialDocument"],
        "call": {"path": f"{service}/Cancel", "query": {**named, "PostingDate": "datetime'2026-11-28T00:00:00'"}},
    }


def case_of(key: str, minute: int, comment: str) -> dict[str, Any]:
    """What a Case is told in this minute: a comment only."""
    data, at = "/services/data/v64.0", f"20261128T12{minute:02}00.000000Z"
    case = {"path": f"{data}/sobjects/Case/Busbar_Id__c/{key}"}
    soql = "SELECT Id, CommentBody FROM CaseComment WHERE ParentId = '{Id}'"
    return {
        "operation": "tell_case",
        "key_field": "Busbar_Id__c",
        "key": key,
        "look": case | {"query": {"fields": "Id,CaseNumber,Busbar_Marker__c"}},
        "marker": {
            "field": "Busbar_Marker__c",
            "version": 0,
            "facts_at": "",
            "told_at": at,
            "correlation_id": "a-peer",
            "characters_max": 255,
        },
        "create": {"Subject": "A peer's", "Status": "New", "Busbar_Marker__c": f"Busbar v0 - {at} a-peer"},
        "change": {"ticket": {}, "facts": {}},
        "upsert": case,
        "composite": {"path": f"{data}/composite"},
        "comment": {
            "path": f"{data}/sobjects/CaseComment",
            "body": {"CommentBody": f"{comment} [{at}]", "IsPublished": False},
            "reference": at,
        },
        "comments": {"path": f"{data}/query", "query": {"q": soql}},
    }
