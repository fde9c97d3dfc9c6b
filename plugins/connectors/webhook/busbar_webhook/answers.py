"""What a receiver's answer means for the delivery."""

from collections.abc import Mapping
from datetime import datetime

from busbar.sdk import AuthExpired, DeliveryError, Permanent, Retryable, failure_of_status

EXCERPT_CHARACTERS_MAX = 200
TRIED_AGAIN = frozenset({404, 409})
"""Beside what any remote may answer: an address that is not served just now, and a receiver that is busy with it."""


def failure_of_answer(status: int, headers: Mapping[str, str], excerpt: str, *, now: datetime) -> DeliveryError:
    """What an answer other than 2xx means.

    410 and 401 pause the endpoint until somebody acts, 429 as long as the receiver says; 404, 408, 409, 425 and 5xx are
    tried again; everything else is refused for good, and waits in the dead letters.
    """
    failure = failure_of_status(status, headers, now=now)
    said = f" It said: {excerpt}" if excerpt else ""
    if status == 410:
        return AuthExpired(
            "The receiver answered 410 Gone: it wants no more messages. "
            "Switch the endpoint off, or enter the receiver's new address."
        )
    if isinstance(failure, AuthExpired):
        return AuthExpired(
            "The receiver answered 401: it does not accept the signature or the Authorization header. "
            f"Enter the secrets that it has.{said}"
        )
    if status in TRIED_AGAIN:
        return Retryable(f"The receiver answered {status}.{said}")
    if isinstance(failure, Permanent):
        return Permanent(f"The receiver refused the message with {status}.{said}")
    if isinstance(failure, Retryable):
        return Retryable(f"The receiver answered {status}.{said}", after_s=failure.after_s, uncertain=failure.uncertain)
    return failure


def excerpt_of(body: bytes) -> str:
    """The start of what the receiver said, on one line, or "" for what is not text."""
    text = " ".join(body[: 4 * EXCERPT_CHARACTERS_MAX].decode(errors="ignore").split())
    return text[:EXCERPT_CHARACTERS_MAX] if text.isprintable() else ""
