"""The connection test: a signed ping, and one that nobody who knows the secret has signed."""

import time
from typing import Any

import msgspec

from busbar.sdk import ConnectionReport, DeliveryError, Endpoint, new_signing_secret, uuid7
from busbar_webhook.delivery import post
from busbar_webhook.messages import CONTENT_TYPES, Message
from busbar_webhook.settings import WebhookSettings

PING = "busbar.ping"
"""The type of the test's messages, which tell of nothing."""


async def test_connection(endpoint: Endpoint) -> ConnectionReport:
    """Post a ping of the type `busbar.ping`, which a receiver answers with 2xx and otherwise leaves alone.

    Then the same with a foreign signature: a receiver that takes it does not verify, and the report says so.
    """
    started_s = time.perf_counter()
    try:
        status = await post(endpoint, _ping(endpoint))
    except DeliveryError as error:
        return ConnectionReport(ok=False, detail=error.detail)
    latency_ms = (time.perf_counter() - started_s) * 1000
    settings: WebhookSettings = endpoint.settings
    words = [f"The receiver took a signed ping and answered {status}."]
    if await _takes_a_foreign_signature(endpoint):
        words.append("It also took one with a foreign signature: let it verify signatures, or anybody can write to it.")
    if settings.url.startswith("http:"):
        words.append("The address is not https: messages travel unprotected.")
    return ConnectionReport(ok=True, detail=" ".join(words), latency_ms=latency_ms)


async def _takes_a_foreign_signature(endpoint: Endpoint) -> bool:
    try:
        await post(endpoint, _ping(endpoint), signed_by=(new_signing_secret(),))
    except DeliveryError:
        return False
    return True


def _ping(endpoint: Endpoint) -> Message:
    settings: WebhookSettings = endpoint.settings
    now = endpoint.clock().isoformat()
    message_id = f"ping_{uuid7()}"
    body: dict[str, Any] = {"type": PING, "data": {"endpoint": endpoint.endpoint_id}, "id": message_id}
    if settings.payload == "cloudevent":
        body |= {"specversion": "1.0", "source": "/busbar", "time": now, "datacontenttype": "application/json"}
    else:
        body |= {"timestamp": now}
    return Message(message_id=message_id, body=msgspec.json.encode(body), content_type=CONTENT_TYPES[settings.payload])
