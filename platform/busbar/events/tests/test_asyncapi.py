"""The AsyncAPI document is valid by the official schema, and real events are valid by the document."""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from busbar.bus.topology import routing_key
from busbar.db import fetchrow
from busbar.events.asyncapi import asyncapi_document, routing_address
from busbar.events.envelope import COLUMNS, stored
from busbar.events.registry import EventRegistry, EventType
from busbar.events.tests.facts import FACT, NEWS, OTHER, tell

OFFICIAL = Path(__file__).parent / "fixtures" / "asyncapi-3.0.0.json.gz"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is."""

    latitude: float
    longitude: float | None = None


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Something moved.

    Not told for small distances.
    """

    to: Place
    via: tuple[Place, ...] = ()


@pytest.fixture
def document() -> dict[str, Any]:
    registry = EventRegistry()
    for each in (FACT, NEWS, OTHER, EventType(name="TST_MOVED", module="tst", data=Moved, version=3)):
        registry.register(each)
    return asyncapi_document(registry, "1.2.3")


def errors_of(document: Any) -> list[str]:
    schema = json.loads(gzip.decompress(OFFICIAL.read_bytes()))
    validator = jsonschema.Draft7Validator(schema)
    return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(document)]


class TestAsyncapiDocument:
    def test_is_valid_by_the_official_schema(self, document: dict[str, Any]) -> None:
        assert errors_of(document) == []

    def test_would_not_be_valid_with_a_fault(self, document: dict[str, Any]) -> None:
        document["operations"]["stream"]["action"] = "shout"
        assert errors_of(document) != []

    def test_has_a_channel_for_each_type_addressed_by_its_routing_key(self, document: dict[str, Any]) -> None:
        addresses = {name: channel["address"] for name, channel in document["channels"].items()}
        assert addresses == {
            "TST_FACT": "{site}.tst.TST_FACT",
            "TST_NEWS": "{site}.tst.TST_NEWS",
            "TST_MOVED": "{site}.tst.TST_MOVED",
            "OTH_FACT": "{site}.oth.OTH_FACT",
            "stream": "/api/v1/events/stream",
        }

    def test_describes_a_type_by_the_first_paragraph_of_its_struct(self, document: dict[str, Any]) -> None:
        assert document["channels"]["TST_MOVED"]["description"] == "Something moved."
        assert document["info"]["version"] == "1.2.3"

    def test_has_no_reference_that_leads_nowhere(self, document: dict[str, Any]) -> None:
        def references(node: Any) -> list[str]:
            if isinstance(node, dict):
                own = [node["$ref"]] if "$ref" in node else []
                return own + [each for value in node.values() for each in references(value)]
            return [each for value in node for each in references(value)] if isinstance(node, list) else []

        for reference in references(document):
            target: Any = document
            for part in reference.removeprefix("#/").split("/"):
                target = target[part]

    @pytest.mark.usefixtures("database")
    async def test_describes_a_real_event(self, document: dict[str, Any]) -> None:
        await tell(3)
        event = stored(await fetchrow(f"select {COLUMNS} from core.event"))
        sent = json.loads(msgspec.json.encode(event.cloud_event()))
        schema = {"$ref": "#/components/messages/TST_FACT/payload", "components": document["components"]}
        jsonschema.validate(sent, schema, cls=jsonschema.Draft202012Validator)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**sent, "type": "TST_NEWS"}, schema, cls=jsonschema.Draft202012Validator)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**sent, "data": {"n": "3"}}, schema, cls=jsonschema.Draft202012Validator)


class TestRoutingAddress:
    def test_is_the_one_under_which_the_event_is_published(self) -> None:
        ticket = EventType(name="PM_TICKET_CREATED", module="pm", data=Moved)
        assert routing_address(ticket) == "{site}.pm.PM_TICKET_CREATED"
        assert routing_address(ticket).format(site="a") == routing_key("a", "pm", "PM_TICKET_CREATED")
