"""The AsyncAPI 3.0 document that describes every event, made from the registry (SPEC R5.6)."""

from typing import Any, Final

import msgspec

from busbar.events.envelope import CONTENT_TYPE
from busbar.events.registry import EventRegistry, EventType

ASYNCAPI_VERSION: Final = "3.0.0"
STREAM_ADDRESS: Final = "/api/v1/events/stream"

_DESCRIPTION: Final = """Every event that this installation tells of, as CloudEvents 1.0 in structured JSON.

A channel's address is the routing key `<site>.<module>.<event>` under which the event stands on the bus. The same
events come over HTTP as Server-Sent Events from the channel `stream`, where `id` is the event's position and
`Last-Event-ID` resumes after it."""


def routing_address(event_type: EventType) -> str:
    """The address of the type's channel, with the site left open: `{site}.pm.PM_TICKET_CREATED`."""
    return f"{{site}}.{event_type.module}.{event_type.name}"


def asyncapi_document(registry: EventRegistry, version: str) -> dict[str, Any]:
    """The document for the declared types; `version` is that of the installation."""
    types = list(registry)
    data_schemas, components = msgspec.json.schema_components(
        [each.data for each in types], ref_template="#/components/schemas/{name}"
    )
    schemas: dict[str, Any] = {"CloudEvent": _envelope(), **components}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for each, data in zip(types, data_schemas, strict=True):
        messages[each.name] = _message(each, data)
        channels[each.name] = _channel(each)
        operations[f"tell_{each.name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{each.name}"},
            "summary": f"Busbar tells of {each.name}.",
            "messages": [{"$ref": f"#/channels/{each.name}/messages/{each.name}"}],
        }
    channels["stream"] = _stream_channel(types)
    operations["stream"] = {
        "action": "send",
        "channel": {"$ref": "#/channels/stream"},
        "summary": "All events that the caller may see, live.",
    }
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Busbar events",
            "version": version,
            "description": _DESCRIPTION,
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(event_type: EventType) -> dict[str, Any]:
    return {
        "address": routing_address(event_type),
        "description": event_type.description,
        "parameters": {"site": {"description": "Id of the site that the event belongs to."}},
        "messages": {event_type.name: {"$ref": f"#/components/messages/{event_type.name}"}},
        "tags": [{"name": event_type.module}],
    }


def _stream_channel(types: list[EventType]) -> dict[str, Any]:
    return {
        "address": STREAM_ADDRESS,
        "title": "Server-Sent Events",
        "description": "The live stream over HTTP; `type` narrows it, `after` or `Last-Event-ID` resumes it.",
        "messages": {each.name: {"$ref": f"#/components/messages/{each.name}"} for each in types},
    }


def _message(event_type: EventType, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": event_type.name,
        "title": event_type.name,
        "summary": event_type.description,
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.payload#/correlationid"},
        "tags": [{"name": event_type.module}],
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event_type.name},
                        "schemaversion": {"const": event_type.version},
                        "data": data,
                    },
                },
            ]
        },
    }


def _envelope() -> dict[str, Any]:
    """The envelope as it is on the wire; `data` is described by each message."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "description": "CloudEvents 1.0, structured JSON, with Busbar's extension attributes.",
        "required": [
            *("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"),
            *("correlationid", "site", "schemaversion"),
        ],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid", "description": "UUID of version 7; unique for ever."},
            "source": {"type": "string", "format": "uri-reference", "pattern": "^/busbar/[^/]+/[^/]+$"},
            "type": {**text, "description": "Starts with the module's word in capitals."},
            "subject": {**text, "description": "Id of what the event is about; the order is kept within a subject."},
            "time": {"type": "string", "format": "date-time", "description": "The moment of the fact, in UTC."},
            "datacontenttype": {"const": "application/json"},
            "data": {"type": "object"},
            "correlationid": {**text, "description": "The id that the causing request carried, or was given."},
            "site": text,
            "schemaversion": {"type": "integer", "minimum": 1, "description": "Version of the schema of `data`."},
            "traceparent": {"type": "string", "description": "W3C trace context of the causing request, if any."},
        },
    }
