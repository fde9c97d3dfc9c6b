"""One message that the receiver took."""

from connector_simulation import Effect as AnyEffect


class Effect(AnyEffect, frozen=True, kw_only=True):
    """A message that was taken for the first time; its fields are those of the document that was sent."""

    webhook_id: str
    type: str
    subject: str
    """What the event is about, such as a ticket's id."""
