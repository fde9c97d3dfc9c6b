"""What a receiver of Standard Webhooks 1.0 has to check of each message, written without Busbar's own code for it."""

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from connector_simulation import Webhook, sign

TOLERANCE_S = 300


class BadMessage(ValueError):
    """The message is not from who shares our secret, or is old; the text says what is wrong."""


def key_of(secret: str) -> bytes:
    """The bytes of a secret, `whsec_` and base64. Raises ValueError."""
    return Webhook(url="", secret=secret).key()


def verified_id(headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str], now: datetime) -> str:
    """The id of a message that one of these secrets signed, within five minutes of now. Raises BadMessage."""
    message_id, timestamp, signatures = (
        headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not (message_id and timestamp and signatures):
        raise BadMessage("a header of webhook-id, webhook-timestamp, webhook-signature is missing")
    if not timestamp.isdecimal() or abs(now.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise BadMessage("webhook-timestamp is no number, or more than five minutes from now")
    offered = [signature.encode() for signature in signatures.split(" ")]
    for secret in secrets:
        expected = sign(key_of(secret), message_id, timestamp, body).encode()
        if any(hmac.compare_digest(expected, signature) for signature in offered):
            return message_id
    raise BadMessage("no signature matches")
