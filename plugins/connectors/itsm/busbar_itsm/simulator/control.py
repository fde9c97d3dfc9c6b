"""What only this simulator's control API takes: changes by a ServiceNow user, and the rate limit rule."""

from typing import Any

import msgspec


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that a ServiceNow user makes; the record is named by sys_id, or by its correlation_id."""

    sys_id: str = ""
    correlation_id: str = ""
    fields: dict[str, Any]
    table: str = "incident"
    user: str = "service.desk"


class RateLimitRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /_simulator/rate-limit."""

    requests_max: int | None
    """None switches the rule off."""
    window_s: int = 3600
