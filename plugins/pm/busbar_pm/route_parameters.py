"""Parameters and field types that several routes of plant maintenance share."""

from datetime import datetime
from typing import Annotated, Final

from litestar.params import Parameter, QueryParameter

from busbar.sdk import needs

READ: Final = needs("pm.read")
WRITE: Final = needs("pm.write")

SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern="^[a-z][a-z0-9_-]*$", description="Only this site.")
]
AssetFilter = Annotated[str | None, QueryParameter(name="asset_id", max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
AssetId = Annotated[str, Parameter(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
AssetTypeFilter = Annotated[str | None, Parameter(max_length=40, pattern="^[a-z][a-z0-9_-]*$")]
PeriodFrom = Annotated[
    datetime | None,
    QueryParameter(name="from", description="Beginning of the period; a year before its end if left out."),
]
PeriodTo = Annotated[
    datetime | None, QueryParameter(name="to", description="End of the period, not part of it; now if left out.")
]
