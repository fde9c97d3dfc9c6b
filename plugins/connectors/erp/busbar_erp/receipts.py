"""The receipt of an event that SAP is not told."""

from busbar.sdk import Attempt, Receipt

NOTHING = "none"
"""In place of a document's number, where there is none: a receipt must name something."""


def not_told(attempt: Attempt, reason: str) -> Receipt:
    """Nothing was sent, and nothing is wrong; the subject keeps the number that it has at SAP, if any."""
    return Receipt(remote_id=attempt.remote_id or NOTHING, detail=f"SAP is not told: {reason}.")
