"""The parameters and field types that the routes share."""

from decimal import Decimal
from typing import Annotated

import msgspec
from litestar.params import Parameter, QueryParameter

MaterialId = Annotated[str, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
MaterialFilter = Annotated[
    str | None, QueryParameter(name="material_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")
]
TicketFilter = Annotated[str | None, QueryParameter(name="ticket_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
LocationFilter = Annotated[
    str | None, QueryParameter(name="storage_location", max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")
]
SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern="^[a-z][a-z0-9_-]*$", description="Only this site.")
]
StatusFilter = Annotated[str | None, QueryParameter(name="status", max_length=20, pattern="^[a-z]*$")]

UnitPrice = Annotated[
    Decimal,
    msgspec.Meta(
        extra_json_schema={
            "type": ["string", "integer"],
            "pattern": r"^[0-9]{1,8}(\.[0-9]{1,4})?$(?!\n)",
            "minimum": 0,
            "maximum": 99_999_999,
            "examples": ["12.3456"],
        }
    ),
]
"""The price of one unit: at least 0, at most 8 digits and 4 decimals, as text or number."""
Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3, pattern=r"^[A-Z]{3}$(?!\n)")]
"""An ISO 4217 code."""
Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=20, pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$(?!\n)")]
"""A unit of measure such as EA, m or kg: 1 to 20 characters."""
