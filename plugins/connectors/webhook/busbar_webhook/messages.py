"""What is posted: the body of an event, and the headers that sign it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from busbar.sdk import Attempt, AuthExpired, BadSigningSecret, Endpoint, Secret, read_signing_secrets, sign_webhook

Payload = Literal["standard", "cloudevent"]

CONTENT_TYPES: Mapping[Payload, str] = {
    "standard": "application/json",
    "cloudevent": "application/cloudevents+json",
}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message; every attempt sends the same bytes under the same id."""

    message_id: str
    body: bytes
    content_type: str
    correlation_id: str = ""
    traceparent: str = ""


def message_of(attempt: Attempt, payload: Payload) -> Message:
    """The message that tells of the attempt's event; what the route's mapping made takes the place of `data`.

    Two routes that lead an event to one receiver make two messages of it, each with an id of its own.
    """
    event = attempt.event
    data = event["data"] if attempt.document is None else attempt.document
    # With the event's id in it, the id is not given again by a database that was set back to an earlier state.
    return Message(
        message_id=f"{event['id']}_{attempt.delivery_id}",
        body=msgspec.json.encode({**event, "data": data} if payload == "cloudevent" else _standard(event, data)),
        content_type=CONTENT_TYPES[payload],
        correlation_id=attempt.correlation_id,
        traceparent=event.get("traceparent", ""),
    )


def _standard(event: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The structure that Standard Webhooks 1.0 proposes, with what else a receiver needs as further members."""
    return {
        "type": event["type"],
        "timestamp": event["time"],
        "data": data,
        "id": event["id"],
        "subject": event["subject"],
        "site": event["site"],
        "correlation_id": event["correlationid"],
        "schema_version": event["schemaversion"],
    }


def headers_of(endpoint: Endpoint, message: Message, signed_by: Sequence[Secret]) -> dict[str, str]:
    """The headers of an attempt that is made now, with one signature for each secret."""
    signed = sign_webhook(secrets=signed_by, message_id=message.message_id, at=endpoint.clock(), body=message.body)
    # Compressed, an answer could be of any size behind a small one.
    headers = {"Content-Type": message.content_type, "Accept-Encoding": "identity", **signed}
    if message.correlation_id:
        headers["X-Correlation-ID"] = message.correlation_id
    if message.traceparent:
        headers["traceparent"] = message.traceparent
    if authorization := endpoint.secrets.get("authorization"):
        headers["Authorization"] = authorization.reveal()
    return headers


def signing_secrets(endpoint: Endpoint) -> Sequence[Secret]:
    """The secrets that sign for this endpoint, each with a signature of its own. Raises AuthExpired."""
    stored = endpoint.secrets.get("webhook_secret")
    if not stored:
        raise AuthExpired(f"The endpoint {endpoint.name} has no webhook_secret; enter it.")
    try:
        return read_signing_secrets(stored)
    except BadSigningSecret as error:
        raise AuthExpired(f"The webhook_secret of {endpoint.name} cannot be used: {error.detail}") from error
