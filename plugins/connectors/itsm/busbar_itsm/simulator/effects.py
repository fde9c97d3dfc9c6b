"""One write in the effect log, in ServiceNow's words."""

from connector_simulation import Effect as AnyEffect


class Effect(AnyEffect, frozen=True, kw_only=True):
    """One write that was carried out; its method is CHANGE for what a simulated ServiceNow user did."""

    table: str
    sys_id: str
    number: str
    correlation_id: str
    """The record's field, after the write."""
