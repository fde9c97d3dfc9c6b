"""The append-only trail of who did what, and the chain that shows tampering. Start reading in `trail.py`."""

from busbar.audit.trail import record, record_many

__all__ = ["record", "record_many"]
