"""The parameters and field types that the routes share."""

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

Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3, pattern=r"^[A-Z]{3}$(?!\n)")]
"""An ISO 4217 code."""
Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=20, pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$(?!\n)")]
"""A unit of measure such as EA, m or kg: 1 to 20 characters."""
