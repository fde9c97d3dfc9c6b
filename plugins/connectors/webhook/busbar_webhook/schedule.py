"""When a message that the receiver does not take is tried again."""

from busbar_webhook.settings import WebhookSettings

DAYS_S = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""The schedule that Standard Webhooks 1.0 gives as its example: ten attempts within 75 h 35 min, these far apart."""


def retry_waits(settings: WebhookSettings) -> tuple[float, ...]:
    """The waits between attempts in seconds; empty for Busbar's own schedule of some minutes."""
    return DAYS_S if settings.retries == "days" else ()
