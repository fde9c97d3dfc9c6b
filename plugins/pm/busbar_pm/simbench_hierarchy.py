"""The tree of a SimBench grid: which asset hangs under which, and how many customers each serves.

The rules are written in the docstring of `busbar_pm.simbench`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from busbar_pm.simbench_tables import NULL, BadGrid, Row, Tables
from busbar_pm.supply import trace_supply

Key = tuple[str, str]
"""Asset type and SimBench id."""

_PREFIXES = {
    "network": "NET",
    "substation": "SUB",
    "transformer": "TRF",
    "feeder": "FDR",
    "line": "LIN",
    "switch": "SWT",
    "service_point": "SVP",
}
_FEEDER = re.compile(r"(MV\d+\.\d+)_(?:LV[\d.]+_)?(Feeder\d+)")
_MV = re.compile(r"MV\d+\.\d+")
_NETWORK = re.compile(r"E?HV\d+")


class Feeder(msgspec.Struct, frozen=True, kw_only=True):
    """What the lines of one feeder say about it."""

    start: str
    """The busbar it leaves from."""
    head: Key
    """Its first line, seen from that busbar."""
    lines: int
    length_km: float


class Hierarchy:
    """Parents and customers of every asset of a grid. Raises BadGrid where a rule finds nothing to hold on to."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.source: dict[Key, Row] = {
            (asset_type, row["id"]): row
            for asset_type, rows in (
                ("substation", tables.substations),
                ("transformer", tables.transformers),
                ("line", tables.lines),
                ("switch", tables.switches),
                ("service_point", tables.loads),
            )
            for row in rows
        }
        self._areas: dict[str, str] = {}
        self._trace()
        self.feeders = self._find_feeders()
        self._index_areas()
        self._nearest_transformers = self._find_nearest_transformers()
        self.parents: dict[Key, Key | None] = {}
        self._set_parents()
        self.asset_ids = _asset_ids(self.parents)
        self.customers: dict[Key, int] = {}
        self._count_customers()

    def parents_first(self) -> Iterator[Key]:
        """Every asset once, each after its parent; raises BadGrid on a cycle."""
        done: set[Key] = set()
        for key in self.parents:
            chain: list[Key] = []
            above: Key | None = key
            while above is not None and above not in done:
                if above in chain:
                    raise BadGrid(f"{above[0]} {above[1]!r} is its own parent by way of {len(chain)} others.")
                chain.append(above)
                above = self.parents[above]
            for link in reversed(chain):
                done.add(link)
                yield link

    def supplier(self, key: Key) -> Key | None:
        """The branch through which this branch is supplied; None where there is not exactly one, or it is open."""
        index = self._index_of.get(key)
        if index is None or self._supply.behind[index] is None:
            return None
        for end in self._branches[index]:
            if self._supply.entering.get(end) == index:
                before = self._supply.entering.get(self._supply.upstream[end])
                return None if before is None else self._keys[before]
        return None

    def area_of(self, key: Key) -> str:
        """The grid area of an asset, from the network down."""
        asset_type, name = key
        if asset_type in ("network", "feeder"):
            return self._area(name)
        row = self.source[key]
        # A load's own subnet may name the grid it stands for; its node says where it is.
        return self._area(self.tables.nodes[row["node"]]["subnet"] if asset_type == "service_point" else row["subnet"])

    # Reading the grid

    def _trace(self) -> None:
        """Trace the supply over all closed branches, from the upper side of the first upper-most transformer."""
        behind_switches = {row[end] for row in self.tables.switches for end in ("nodeA", "nodeB")}

        def terminal(node_id: str) -> str:
            # Where the switch between a node and a terminal is not in the folder, the two are one.
            return node_id if node_id in behind_switches else self.tables.physical(node_id)["id"]

        self._branches: list[tuple[str, str]] = []
        self._keys: list[Key] = []
        for (asset_type, name), row in self.source.items():
            if asset_type == "transformer":
                ends = terminal(row["nodeHV"]), terminal(row["nodeLV"])
            elif asset_type == "line" or (asset_type == "switch" and row["cond"] == "1"):
                ends = terminal(row["nodeA"]), terminal(row["nodeB"])
            else:
                continue
            self._branches.append(ends)
            self._keys.append((asset_type, name))
        self._index_of = {key: index for index, key in enumerate(self._keys)}

        supplying = [row for row in self.tables.transformers if row["voltLvl"] in ("2", "4", "6")]
        if not supplying:
            raise BadGrid(
                "Transformer.csv has no transformer between two voltage levels, so nothing says what supplies."
            )
        first = min(supplying, key=lambda row: row["voltLvl"])
        self.loads_at: dict[str, list[str]] = defaultdict(list)
        for row in self.tables.loads:
            self.loads_at[self.tables.physical(row["node"])["id"]].append(row["id"])
        self._supply = trace_supply(
            self._branches,
            source=terminal(first["nodeHV"]),
            customers_at={node_id: len(loads) for node_id, loads in self.loads_at.items()},
        )
        self.redundant = {key for key, count in zip(self._keys, self._supply.behind, strict=True) if count is None}

    def _find_feeders(self) -> dict[str, Feeder]:
        lines: dict[str, list[Row]] = defaultdict(list)
        for row in self.tables.lines:
            name = _feeder_of(row["subnet"])
            if name:
                lines[name].append(row)
        feeders = {}
        for name, rows in lines.items():
            heads = [
                (start, row)
                for row in rows
                if (start := self._upstream_node(row)) and _feeder_of(self.tables.nodes[start]["subnet"]) != name
            ]
            if len(heads) != 1:
                raise BadGrid(f"Feeder {name} is supplied at {len(heads)} places; exactly one is needed.")
            start, head = heads[0]
            feeders[name] = Feeder(
                start=start,
                head=("line", head["id"]),
                lines=len(rows),
                length_km=sum(float(row["length"]) for row in rows),
            )
        return feeders

    def _upstream_node(self, line: Row) -> str | None:
        """The node at the energised end of a line; None when it is not supplied, or is a way back."""
        index = self._index_of["line", line["id"]]
        for end in self._branches[index]:
            if self._supply.entering.get(end) == index:
                return self.tables.physical(self._supply.upstream[end])["id"]
        return None

    def _index_areas(self) -> None:
        self.nodes_of_substation: dict[str, list[Row]] = defaultdict(list)
        self.network_voltages_kv: dict[str, set[float]] = defaultdict(set)
        for node in self.tables.nodes.values():
            if node["substation"] != NULL:
                self.nodes_of_substation[node["substation"]].append(node)
            network = _NETWORK.match(node["subnet"])
            # The upper side of an EHV/HV transformer is listed in the subnet of its HV network, and is none of it.
            if network and node["voltLvl"] == ("1" if network.group().startswith("E") else "3"):
                self.network_voltages_kv[network.group()].add(float(node["vmR"]))
        for row in self.tables.substations:
            if row["id"] not in self.nodes_of_substation:
                raise BadGrid(f"Substation {row['id']!r} has no node.")
        self._transformer_of_lv = {row["subnet"]: row for row in self.tables.transformers if row["voltLvl"] == "6"}
        self._substation_of_mv: dict[str, Row] = {}
        for row in self.tables.substations:
            mv = _MV.search(row["subnet"])
            if row["voltLvl"] == "4" and mv:
                self._substation_of_mv[mv.group()] = row

    def _find_nearest_transformers(self) -> dict[str, str | None]:
        """For each MV busbar the HV/MV transformer nearest in closed switches; None where two are equally near."""
        neighbours: dict[str, set[str]] = defaultdict(set)
        for key, (a, b) in zip(self._keys, self._branches, strict=True):
            if key[0] == "switch":
                node_a, node_b = self.tables.physical(a)["id"], self.tables.physical(b)["id"]
                neighbours[node_a].add(node_b)
                neighbours[node_b].add(node_a)
        nearest: dict[str, str | None] = {
            self.tables.physical(row["nodeLV"])["id"]: row["id"]
            for row in self.tables.transformers
            if row["voltLvl"] == "4"
        }
        ring = dict(nearest)
        while ring:
            reached: dict[str, set[str | None]] = defaultdict(set)
            for node_id, transformer in ring.items():
                for neighbour in neighbours[node_id] - nearest.keys():
                    if self.tables.nodes[neighbour]["substation"] != NULL:
                        reached[neighbour].add(transformer)
            ring = {node_id: names.pop() if len(names) == 1 else None for node_id, names in reached.items()}
            nearest |= ring
        return nearest

    # Parents

    def _set_parents(self) -> None:
        for name in sorted(self.network_voltages_kv):
            self.parents["network", name] = self._parent_of_network(name)
        for row in self.tables.substations:
            self.parents["substation", row["id"]] = self._parent_of_substation(row)
        for row in self.tables.transformers:
            self.parents["transformer", row["id"]] = self._parent_of_transformer(row)
        for name, feeder in self.feeders.items():
            self.parents["feeder", name] = self._holder(feeder.start)
        for row in self.tables.lines:
            self.parents["line", row["id"]] = self._parent_of_line(row)
        for row in self.tables.switches:
            self.parents["switch", row["id"]] = self._parent_of_switch(row)
        for row in self.tables.loads:
            self.parents["service_point", row["id"]] = self._parent_of_service_point(row)
        for key, parent in self.parents.items():
            if parent is not None and parent not in self.parents:
                raise BadGrid(f"{key[0]} {key[1]!r} belongs to {parent[0]} {parent[1]!r}, which the folder lacks.")

    def _parent_of_network(self, name: str) -> Key | None:
        feeding = {
            row["substation"]
            for row in self.tables.transformers
            if row["voltLvl"] == "2" and self._network(row["subnet"]) == name
        }
        return ("substation", feeding.pop()) if len(feeding) == 1 else None

    def _parent_of_substation(self, row: Row) -> Key:
        if row["voltLvl"] == "5":
            return "substation", self._substation_of_mv[row["subnet"]]["id"]
        return "network", self._network(row["subnet"])

    def _parent_of_transformer(self, row: Row) -> Key:
        if row["substation"] != NULL:
            return "substation", row["substation"]
        return self._holder(self.tables.physical(row["nodeHV"])["id"])

    def _parent_of_line(self, row: Row) -> Key:
        if _MV.match(row["subnet"]) and not _feeder_of(row["subnet"]):
            return self._holder(self._upstream_node(row) or self.tables.physical(row["nodeA"])["id"])
        return self._container(row["subnet"])

    def _parent_of_switch(self, row: Row) -> Key:
        node = self.tables.physical(row["nodeA"])
        if row["substation"] != NULL:
            return "substation", row["substation"]
        if node["substation"] != NULL:
            return "substation", node["substation"]
        return self._container(row["subnet"])

    def _parent_of_service_point(self, row: Row) -> Key:
        node = self.tables.physical(row["node"])
        if node["substation"] != NULL or node["voltLvl"] in ("1", "3"):
            return self._holder(node["id"])
        terminal = node["id"]
        while (index := self._supply.entering.get(terminal)) is not None:
            if self._keys[index][0] != "switch":
                return self._keys[index]
            terminal = self._supply.upstream[terminal]
        # A node that nothing supplies in the normal switching state.
        return self._holder(node["id"])

    def _holder(self, node_id: str) -> Key:
        """The asset that a node is part of."""
        node = self.tables.nodes[node_id]
        transformer = self._nearest_transformers.get(node_id)
        if transformer is not None:
            return "transformer", transformer
        if node["substation"] != NULL:
            return "substation", node["substation"]
        return self._container(node["subnet"])

    def _container(self, subnet: str) -> Key:
        """The asset that a whole subnet hangs under."""
        feeder = _feeder_of(subnet)
        if feeder:
            return "feeder", feeder
        if subnet in self._transformer_of_lv:
            return "transformer", self._transformer_of_lv[subnet]["id"]
        return "network", self._network(subnet)

    def _network(self, subnet: str) -> str:
        match = _NETWORK.match(subnet)
        if match is None:
            raise BadGrid(f"Subnet {subnet!r} belongs to no feeder, distribution transformer or network.")
        return match.group()

    def _area(self, subnet: str) -> str:
        area = self._areas.get(subnet)
        if area is None:
            area = self._areas[subnet] = self._name_area(subnet)
        return area

    def _name_area(self, subnet: str) -> str:
        feeder = _FEEDER.match(subnet)
        if feeder:
            return f"{self._area(feeder[1])}, {feeder[2].replace('Feeder', 'Feeder ')}"
        transformer = self._transformer_of_lv.get(subnet)
        if transformer:
            return f"{self._area(self.tables.physical(transformer['nodeHV'])['subnet'])}, {subnet}"
        mv = _MV.match(subnet)
        if mv:
            substation = self._substation_of_mv.get(mv.group())
            return subnet if substation is None else ", ".join(substation["subnet"].split("_"))
        return ", ".join(subnet.split("_"))

    # Customers

    def _count_customers(self) -> None:
        for key in self.parents:
            self.customers[key] = 1 if key[0] == "service_point" else 0
        for key, count in zip(self._keys, self._supply.behind, strict=True):
            self.customers[key] = count or 0
        for name, feeder in self.feeders.items():
            self.customers["feeder", name] = self.customers[feeder.head]
        self._count_parallel_transformers()
        for load in self.tables.loads:
            above = self.parents["service_point", load["id"]]
            while above is not None:
                if above[0] in ("substation", "network"):
                    self.customers[above] += 1
                above = self.parents[above]

    def _count_parallel_transformers(self) -> None:
        for key, parent in self.parents.items():
            if key[0] in ("feeder", "service_point") and parent in self.redundant and parent[0] == "transformer":
                self.customers[parent] += self.customers[key]
        at_terminal = {
            row[end]: ("transformer", row["id"]) for row in self.tables.transformers for end in ("nodeHV", "nodeLV")
        }
        for row in self.tables.switches:
            key = ("switch", row["id"])
            transformer = at_terminal.get(row["nodeB"])
            if key in self.redundant and transformer in self.redundant and row["nodeB"] not in self.tables.nodes:
                self.customers[key] = self.customers[transformer]


def _feeder_of(subnet: str) -> str | None:
    match = _FEEDER.match(subnet)
    return f"{match[1]}_{match[2]}" if match else None


def _asset_ids(parents: dict[Key, Key | None]) -> dict[Key, str]:
    """Make the ids: prefix and name, `-` for what does not belong in an address, a number where two collide."""
    used: set[str] = set()
    asset_ids = {}
    for asset_type, name in parents:
        base = f"{_PREFIXES[asset_type]}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}"
        asset_id, count = base, 1
        while asset_id in used:
            count += 1
            asset_id = f"{base}-{count}"
        used.add(asset_id)
        asset_ids[asset_type, name] = asset_id
    return asset_ids
