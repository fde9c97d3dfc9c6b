"""The few kinds of panel that Busbar's dashboards are made of, all in one look."""

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

TAG: Final = "busbar"
COLUMNS: Final = 24
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, LOOK, BAD = "green", "orange", "red"


@dataclass(frozen=True, kw_only=True)
class Query:
    """One line or family of lines of a panel; `legend` may name labels, as in `{{endpoint}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """From `look` on a value is orange, from `bad` on red; with `falling`, from there down."""

    look: float
    bad: float
    falling: bool = False


class Page:
    """A dashboard in the making: rows of panels, with ids given in the order in which they are added."""

    def __init__(self, uid: str, title: str, description: str) -> None:
        self._id = 0
        self._dashboard = (
            dashboards.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .time("now-3h", "now")
            .refresh("30s")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
            .link(
                dashboards.DashboardLink("Busbar")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .keep_time(True)
            )
        )

    def row(self, title: str) -> None:
        """Begin a new row."""
        self._dashboard.with_row(dashboards.Row(title).id(self._next_id()))

    def number(
        self, title: str, description: str, expr: str, *, unit: str, look: Look | None = None, width: int = 3
    ) -> None:
        """One number, as it is now."""
        panel = (
            stat.Panel()
            .id(self._next_id())
            .title(title)
            .description(description)
            .datasource(SOURCE)
            .unit(unit)
            .span(width)
            .height(4)
            .graph_mode(BigValueGraphMode.AREA)
            .color_mode(BigValueColorMode.VALUE)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .thresholds(_thresholds(look))
            .with_target(prometheus.Dataquery().expr(expr).range().ref_id("A"))
        )
        self._dashboard.with_panel(panel)

    def lines(
        self, title: str, description: str, *queries: Query, unit: str, width: int = 8, stacked: bool = False
    ) -> None:
        """Values over time; `stacked` for parts of a whole."""
        panel = (
            timeseries.Panel()
            .id(self._next_id())
            .title(title)
            .description(description)
            .datasource(SOURCE)
            .unit(unit)
            .span(width)
            .height(8)
            .min(0)
            .line_width(1)
            .fill_opacity(30 if stacked else 8)
            .show_points(VisibilityMode.NEVER)
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        )
        if stacked:
            panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        for ref, query in zip("ABCDEFGH", queries, strict=False):
            panel.with_target(prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range().ref_id(ref))
        self._dashboard.with_panel(panel)

    def states(
        self, title: str, description: str, query: Query, *, names: dict[int, tuple[str, str]], width: int = 12
    ) -> None:
        """What state each thing was in, over time; `names` says for each value its text and colour."""
        results = {
            str(value): ValueMappingResult(text=text, color=color, index=value)
            for value, (text, color) in names.items()
        }
        panel = (
            statetimeline.Panel()
            .id(self._next_id())
            .title(title)
            .description(description)
            .datasource(SOURCE)
            .unit("none")
            .span(width)
            .height(8)
            .merge_values(True)
            .line_width(0)
            .fill_opacity(70)
            .show_value(VisibilityMode.NEVER)
            .mappings([ValueMap(options=results)])
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)
            )
            .with_target(prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range().ref_id("A"))
        )
        self._dashboard.with_panel(panel)

    def build(self) -> Dashboard:
        """The finished dashboard."""
        return self._dashboard.build()

    def _next_id(self) -> int:
        self._id += 1
        return self._id


def as_json(dashboard: Dashboard) -> str:
    """The dashboard as Grafana reads it from a file."""
    return JSONEncoder(indent=2).encode(dashboard) + "\n"


def _thresholds(look: Look | None) -> dashboards.ThresholdsConfig:
    if look is None:
        steps = [Threshold(value=None, color="text")]
    elif look.falling:
        steps = [
            Threshold(value=None, color=BAD),
            Threshold(value=look.bad, color=LOOK),
            Threshold(value=look.look, color=GOOD),
        ]
    else:
        steps = [
            Threshold(value=None, color=GOOD),
            Threshold(value=look.look, color=LOOK),
            Threshold(value=look.bad, color=BAD),
        ]
    return dashboards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
