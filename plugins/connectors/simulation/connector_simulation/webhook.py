"""Signed webhooks out of a simulated system, by the Standard Webhooks specification 1.0."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import msgspec

log = logging.getLogger(__name__)

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that the specification gives to secrets
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
ATTEMPT_TIMEOUT_S = 15.0
RETRY_DELAYS_S = (0.5, 2.0, 5.0)


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where changes are told, and the secret that signs them (`whsec_` and 24 to 64 bytes as base64)."""

    url: str
    secret: str
    api_writes: bool = False
    """Tell also of what came in over the API, as a trigger without a condition would: the receiver sees its own changes
    come back, and must not echo them."""

    def key(self) -> bytes:
        """The bytes of the secret. Raises ValueError."""
        try:
            key = base64.b64decode(self.secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if not self.secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
            raise ValueError("secret is whsec_ and the base64 of 24 to 64 bytes")
        return key


class WebhookDelivery(msgspec.Struct, kw_only=True):
    """One message to the webhook and how it went."""

    webhook_id: str
    body: bytes
    attempts: int = 0
    status: int | None = None
    """Status of the last answer; None if there was none."""
    delivered: bool = False
    done: bool = False


class WebhookSender:
    """Sends each message with retries, in the background; at most one webhook is configured."""

    def __init__(self, *, clock: Callable[[], datetime], retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> None:
        self.webhook: Webhook | None = None
        self.deliveries: list[WebhookDelivery] = []
        self._clock = clock
        self._retry_delays_s = tuple(retry_delays_s)
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, webhook: Webhook | None) -> None:
        """Set or remove the webhook. Raises ValueError for a bad secret."""
        if webhook is not None:
            webhook.key()
        self.webhook = webhook

    def wants(self, *, is_api_write: bool) -> bool:
        """Whether anybody wants to know of a change that a user made, or that came in over the API."""
        return self.webhook is not None and (self.webhook.api_writes or not is_api_write)

    def tell(self, message: Any) -> WebhookDelivery | None:
        """Start sending a message, as JSON; None if there is no webhook."""
        webhook = self.webhook
        if webhook is None:
            return None
        body = msgspec.json.encode(message)
        delivery = WebhookDelivery(webhook_id="msg_" + secrets.token_hex(12), body=body)
        self.deliveries.append(delivery)
        task = asyncio.create_task(self._deliver(webhook, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return delivery

    async def settle(self) -> None:
        """Wait until every message has been delivered or given up."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, webhook: Webhook, delivery: WebhookDelivery) -> None:
        for delay_s in (0.0, *self._retry_delays_s):
            await asyncio.sleep(delay_s)
            delivery.attempts += 1
            delivery.status = await self._attempt(webhook, delivery)
            if delivery.status is not None and 200 <= delivery.status < 300:
                delivery.delivered = True
                break
            if delivery.status == 410:
                # Gone: the receiver wants no more messages at all.
                self.webhook = None
                break
        delivery.done = True
        if not delivery.delivered:
            log.warning("webhook %s was not delivered, last status %s", delivery.webhook_id, delivery.status)

    async def _attempt(self, webhook: Webhook, delivery: WebhookDelivery) -> int | None:
        """Post the message once: the same id at every attempt, a new timestamp, redirects not followed."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timestamp = str(int(self._clock().timestamp()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(webhook.key(), delivery.webhook_id, timestamp, delivery.body),
        }
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S)
        try:
            async with self._session.post(
                webhook.url, data=delivery.body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            log.warning("webhook %s: %s", delivery.webhook_id, error)
            return None


def sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """The value of the header webhook-signature: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
