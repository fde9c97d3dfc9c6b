"""Delivery of one event: a signed POST, and what its answer means (class C: a receiver need not know its own)."""

import asyncio
from collections.abc import Sequence

import aiohttp

from busbar.sdk import Attempt, DeliveryError, EgressRefused, Endpoint, Receipt, Retryable, Secret, failure_of
from busbar_webhook.answers import excerpt_of, failure_of_answer
from busbar_webhook.messages import Message, headers_of, message_of, signing_secrets
from busbar_webhook.settings import WebhookSettings

ANSWER_BYTES_MAX = 65_536
"""So much of an answer is read; a longer one is cut, and its connection closed."""
ANSWER_S_MAX = 2.0
"""So long an answer may go on after its status, which alone says whether the message was taken."""


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    """Post one event. The id of the message is the same at every attempt; timestamp and signatures are this one's.

    Raises Permanent, Retryable, RateLimited or AuthExpired.
    """
    settings: WebhookSettings = endpoint.settings
    message = message_of(attempt, settings.payload)
    status = await post(endpoint, message)
    return Receipt(
        remote_id=message.message_id,
        detail=f"The receiver answered {status}.",
        once=settings.receiver_deduplicates,
    )


async def post(endpoint: Endpoint, message: Message, *, signed_by: Sequence[Secret] = ()) -> int:
    """Post a message once, signed by these secrets or else by the endpoint's; returns the status of a good answer.

    Raises a DeliveryError for any other end.
    """
    settings: WebhookSettings = endpoint.settings
    headers = headers_of(endpoint, message, signed_by or signing_secrets(endpoint))
    try:
        async with asyncio.timeout(settings.timeout_s):
            response = await endpoint.http.post(settings.url, data=message.body, headers=headers, allow_redirects=False)
    except (DeliveryError, EgressRefused, aiohttp.ClientError) as error:
        raise failure_of(error) from error
    except TimeoutError as error:
        raise Retryable(f"The receiver did not answer within {settings.timeout_s:g} s.", uncertain=True) from error
    async with response:
        excerpt = excerpt_of(await _start_of(response))
    if not 200 <= response.status < 300:
        raise failure_of_answer(response.status, response.headers, excerpt, now=endpoint.clock())
    return response.status


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """What the receiver says after its status, as far as it is read and came."""
    start = b""
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            async for part in response.content.iter_any():
                start += part
                if len(start) > ANSWER_BYTES_MAX:
                    response.close()
                    break
    except (aiohttp.ClientError, TimeoutError):
        # The status has been told, and what is missing is for people only.
        response.close()
    return start[:ANSWER_BYTES_MAX]
