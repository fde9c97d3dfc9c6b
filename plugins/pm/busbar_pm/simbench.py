"""Asset rows and service points from a SimBench grid folder (the tables that SimBench publishes as CSV).

The SimBench id is the asset's name; `asset_id` is the same made fit for an address, with a prefix for the type.
Every row of Substation, Transformer, Line, Switch and Load becomes one row; feeders and networks are named in the
`subnet` column without rows of their own, and become one row each.

The hierarchy (`parent_id`):

- **network** (EHV1, HV1, HV2): the meshed grids of 110 kV and above; the top. A network that a single substation
  feeds hangs under that substation (HV2), one that several feed has no parent (HV1).
- **substation**: under the network on its upper side; a base or remote station (voltLvl 5) under the HV/MV substation
  of its MV subnet.
- **transformer**: under its substation; a distribution transformer under the feeder of its upper node; one between
  two EHV voltages, where no substation is given, under its network.
- **feeder**: under the HV/MV transformer nearest to the busbar where it starts, counted in closed switches; where two
  are equally near, or the busbar is a base station's, under the substation.
- **line**: under its feeder, its distribution transformer (LV) or its network (EHV, HV). A line of an MV subnet that
  belongs to no feeder (loop, base-station and remote-station lines) goes where its energised end is.
- **switch**: under the substation it names; else, like a line, under feeder, distribution transformer or network;
  a station's switch that names none goes to the substation of its node.
- **service_point**: under the line that supplies its node; on a busbar, under the transformer, substation or network.

`customers_served` counts service points, one for each load. An equivalent load (attribute `equivalent`) stands for a
whole lower grid and still counts as one. The number is,

- for a line, switch or transformer: the service points that lose supply when it alone opens, in the switching state
  of the file. It is 0 for an open switch, and where a second path exists (attribute `redundant`);
- for an HV/MV transformer in parallel with another: those of the feeders and service points under it, although the
  other could carry them (attribute `redundant` as well); its circuit breakers have the same number;
- for a feeder: what lies behind its first line, feeders of a base station at its end included;
- for a substation or network: the service points below it in the hierarchy.

Data model: S. Meinecke et al., "SimBench - A Benchmark Dataset of Electric Power Systems", Energies 13(12), 2020.
Values of voltLvl: 1 EHV, 2 EHV/HV, 3 HV, 4 HV/MV, 5 MV, 6 MV/LV, 7 LV.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from busbar_pm.simbench_hierarchy import Hierarchy, Key
from busbar_pm.simbench_tables import read_tables

Attributes = dict[str, str | int | float | bool]


class AssetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One asset or service point, ready to be imported."""

    asset_id: str
    asset_type: str
    """network, substation, transformer, feeder, line, switch or service_point."""
    name: str
    location: str
    """The grid area, from the network down, for example `HV1, MV1.101, Feeder 1, LV1.101`."""
    latitude: float | None
    longitude: float | None
    """Degrees (WGS 84); of a line its middle, of a feeder its start, of a network none."""
    voltage_kv: float
    """Nominal voltage; of a substation, network or transformer the highest."""
    parent_id: str | None
    customers_served: int
    attributes: Attributes
    """Units are in the names: `length_km`, `rating_a`, `rating_mva`, `load_mw`."""


class GridTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a grid holds, to compare with what was stored."""

    rows: int
    by_type: dict[str, int]
    customers_at_roots: int
    """Sum of `customers_served` over the assets without parent: equals the number of service points."""
    line_km: float


def read_assets(folder: Path) -> Iterator[AssetRow]:
    """Yield every asset and service point of a SimBench folder, parents before children, always in the same order.

    Raises BadGrid before the first row when the folder is incomplete or inconsistent.
    """
    rows = _Rows(Hierarchy(read_tables(folder)))
    return (rows.row(key) for key in rows.hierarchy.parents_first())


def summarize(rows: Iterable[AssetRow]) -> GridTotals:
    """Count what `read_assets` gave."""
    by_type: Counter[str] = Counter()
    customers_at_roots = 0
    line_km = 0.0
    for row in rows:
        by_type[row.asset_type] += 1
        if row.parent_id is None:
            customers_at_roots += row.customers_served
        if row.asset_type == "line":
            line_km += float(row.attributes["length_km"])
    return GridTotals(
        rows=by_type.total(),
        by_type=dict(by_type),
        customers_at_roots=customers_at_roots,
        line_km=round(line_km, 3),
    )


_SWITCH_KINDS = {"CB": "circuit breaker", "LBS": "load-break switch", "DS": "disconnector"}
_LINE_KINDS = {"cable": "cable", "ohl": "overhead line"}


class _Rows:
    """Writes the row of each asset of a hierarchy."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.tables = hierarchy.tables
        self._describe = {
            "network": self._network,
            "substation": self._substation,
            "transformer": self._transformer,
            "feeder": self._feeder,
            "line": self._line,
            "switch": self._switch,
            "service_point": self._service_point,
        }

    def row(self, key: Key) -> AssetRow:
        asset_type, name = key
        node_ids, voltage_kv, attributes = self._describe[asset_type](name)
        longitude, latitude = self._middle(node_ids)
        parent = self.hierarchy.parents[key]
        attributes |= self._supply(key)
        return AssetRow(
            asset_id=self.hierarchy.asset_ids[key],
            asset_type=asset_type,
            name=name,
            location=self.hierarchy.area_of(key),
            latitude=latitude,
            longitude=longitude,
            voltage_kv=voltage_kv,
            parent_id=self.hierarchy.asset_ids[parent] if parent else None,
            customers_served=self.hierarchy.customers[key],
            attributes=attributes,
        )

    def _network(self, name: str) -> tuple[list[str], float, Attributes]:
        voltages = self.hierarchy.network_voltages_kv[name]
        return [], max(voltages), {"voltages_kv": ", ".join(f"{voltage:g}" for voltage in sorted(voltages))}

    def _substation(self, name: str) -> tuple[list[str], float, Attributes]:
        nodes = self.hierarchy.nodes_of_substation[name]
        voltage_kv = max(float(node["vmR"]) for node in nodes)
        # Where busbars of two voltages have two positions, the upper one is the substation's.
        highest = next(node["id"] for node in nodes if float(node["vmR"]) == voltage_kv)
        return (
            [highest],
            voltage_kv,
            {"busbars": len(nodes), "subnet": self.hierarchy.source["substation", name]["subnet"]},
        )

    def _transformer(self, name: str) -> tuple[list[str], float, Attributes]:
        row = self.hierarchy.source["transformer", name]
        type_row = self.tables.transformer_types[row["type"]]
        return (
            [row["nodeHV"]],
            float(type_row["vmHV"]),
            {
                "type": row["type"],
                "rating_mva": float(type_row["sR"]),
                "secondary_kv": float(type_row["vmLV"]),
                "loading_max_percent": float(row["loadingMax"]),
                "subnet": row["subnet"],
            },
        )

    def _feeder(self, name: str) -> tuple[list[str], float, Attributes]:
        feeder = self.hierarchy.feeders[name]
        return (
            [feeder.start],
            float(self.tables.nodes[feeder.start]["vmR"]),
            {"busbar": feeder.start, "lines": feeder.lines, "length_km": round(feeder.length_km, 6), "subnet": name},
        )

    def _line(self, name: str) -> tuple[list[str], float, Attributes]:
        row = self.hierarchy.source["line", name]
        type_row = self.tables.line_types[row["type"]]
        return (
            [row["nodeA"], row["nodeB"]],
            float(self.tables.physical(row["nodeA"])["vmR"]),
            {
                "type": row["type"],
                "kind": _LINE_KINDS[type_row["type"]],
                "length_km": float(row["length"]),
                "rating_a": float(type_row["iMax"]),
                "loading_max_percent": float(row["loadingMax"]),
                "subnet": row["subnet"],
            },
        )

    def _switch(self, name: str) -> tuple[list[str], float, Attributes]:
        row = self.hierarchy.source["switch", name]
        return (
            [row["nodeA"]],
            float(self.tables.physical(row["nodeA"])["vmR"]),
            {"type": _SWITCH_KINDS[row["type"]], "normally_open": row["cond"] == "0", "subnet": row["subnet"]},
        )

    def _service_point(self, name: str) -> tuple[list[str], float, Attributes]:
        row = self.hierarchy.source["service_point", name]
        return (
            [row["node"]],
            float(self.tables.physical(row["node"])["vmR"]),
            {
                "profile": row["profile"],
                "load_mw": float(row["pLoad"]),
                "rating_mva": float(row["sR"]),
                "equivalent": row["subnet"].endswith("_eq"),
                "subnet": row["subnet"],
            },
        )

    def _middle(self, node_ids: list[str]) -> tuple[float | None, float | None]:
        if not node_ids:
            return None, None
        points = [self.tables.positions[self.tables.physical(node_id)["id"]] for node_id in node_ids]
        return (
            round(sum(point[0] for point in points) / len(points), 6),
            round(sum(point[1] for point in points) / len(points), 6),
        )

    def _supply(self, key: Key) -> Attributes:
        """Add how a branch is supplied: by which branch before it, or that a second path exists."""
        if key in self.hierarchy.redundant:
            return {"redundant": True}
        supplier = self.hierarchy.supplier(key)
        return {"supplied_by": self.hierarchy.asset_ids[supplier]} if supplier else {}
