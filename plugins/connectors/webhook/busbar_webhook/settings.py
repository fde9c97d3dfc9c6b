"""The settings of a webhook endpoint, which become its form, and the names of its secrets."""

from typing import Annotated, Literal

import msgspec

SECRETS = ("webhook_secret", "authorization")
"""`webhook_secret` signs, one or several with blanks between them; `authorization` is for a gateway in between."""


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the receiver is, what it is sent, and what it does with what it has already."""

    url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https?://[^/?#@\s]+([/?][^#\s]*)?$",
            max_length=1_000,
            description="Address that messages are posted to, such as https://control-room.example.org/hooks/busbar",
        ),
    ]
    payload: Literal["standard", "cloudevent"] = "standard"
    """`type`, `timestamp` and `data`, as Standard Webhooks proposes, or the CloudEvent as it is on Busbar's bus."""
    receiver_deduplicates: bool = False
    """The receiver keeps every `webhook-id` and does nothing twice: repeated attempts are no possible duplicates."""
    retries: Literal["minutes", "days"] = "minutes"
    """How a message that a working receiver does not take is tried again: within some minutes, or over three days."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=20)] = 15.0
    """How long one request may take, from connecting to the last byte."""
    ca_file: (
        Annotated[
            str, msgspec.Meta(max_length=500, description="PEM file of the utility's own certification authority")
        ]
        | None
    ) = None
