"""The HTTP side of reports, under /api/v1/fi/reports."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from litestar import Response, get
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from busbar.sdk import RequestContext, needs
from busbar_fi import exports, reports
from busbar_fi.events import CostType
from busbar_fi.reports import CostReport, Filters, GroupBy

_TEXT = r"^[^\x00-\x1f\x7f]*$"
_CSV = "text/csv"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

Format = Literal["json", "csv", "xlsx"]


@dataclass
class ReportOperation(Operation):
    """A report in the API's document: JSON, or a file of one of the other formats."""

    def __post_init__(self) -> None:
        answer = (self.responses or {})["200"]
        assert isinstance(answer, OpenAPIResponse) and answer.content is not None, "a report is described by its type"
        for media_type in (_CSV, _XLSX):
            answer.content[media_type] = OpenAPIMediaType(
                schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
            )


@get("/reports/costs", opt=needs("fi.read"), operation_class=ReportOperation)
async def report_costs(
    ctx: RequestContext,
    by: FromQuery[GroupBy] = "cost_center",
    site: Annotated[str | None, QueryParameter(max_length=40, pattern="^[a-z][a-z0-9_-]*$")] = None,
    cost_center_id: Annotated[
        str | None, QueryParameter(max_length=60, pattern=_TEXT, description="With everything below it.")
    ] = None,
    fiscal_year: Annotated[
        int | None, QueryParameter(ge=1900, le=2200, description="Fills the budget columns by cost center, too.")
    ] = None,
    first_day: Annotated[date | None, QueryParameter(name="from", description="First posting date.")] = None,
    last_day: Annotated[date | None, QueryParameter(name="until", description="Last posting date, inclusive.")] = None,
    cost_type: FromQuery[CostType | None] = None,
    asset_id: Annotated[str | None, QueryParameter(max_length=60, pattern=_TEXT)] = None,
    ticket_id: Annotated[str | None, QueryParameter(max_length=60, pattern=_TEXT)] = None,
    output: Annotated[Format, QueryParameter(name="format")] = "json",
) -> Response[CostReport] | Stream:
    """Sum costs up by cost center, type, month, asset or ticket; as JSON, or as a file with all rows."""
    filters = Filters(
        site=site,
        cost_center_id=cost_center_id,
        fiscal_year=fiscal_year,
        first_day=first_day,
        last_day=last_day,
        cost_type=cost_type,
        asset_id=asset_id,
        ticket_id=ticket_id,
    )
    if output == "json":
        return Response(await reports.costs(ctx, by, filters))
    report = await reports.costs(ctx, by, filters, rows_max=reports.ROWS_EXPORTED_MAX)
    name = {"Content-Disposition": f'attachment; filename="costs-by-{by}.{output}"'}
    if output == "csv":
        return Stream(exports.as_csv(report), media_type=_CSV, headers=name)
    return Stream(exports.as_xlsx(report), media_type=_XLSX, headers=name)


REPORT_ROUTES = (report_costs,)
