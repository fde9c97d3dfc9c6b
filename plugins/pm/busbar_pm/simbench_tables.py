"""The CSV tables of a SimBench folder, read and checked for references that lead nowhere."""

import csv
import re
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec

Row = dict[str, str]


class BadGrid(ValueError):
    """A file of the folder is missing or malformed, or names something that no file of the folder has."""


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that become assets, and the tables they refer to, by id."""

    substations: list[Row]
    transformers: list[Row]
    lines: list[Row]
    switches: list[Row]
    loads: list[Row]
    nodes: dict[str, Row]
    positions: dict[str, tuple[float, float]]
    """Longitude and latitude of each node, degrees (WGS 84)."""
    line_types: dict[str, Row]
    transformer_types: dict[str, Row]

    terminals: dict[str, Row]
    """The node of every terminal that a branch or load names.

    The terminal of a branch behind a switch is called like its node with `_<digits>` added (auxiliary node), and the
    folder holds the nodes only.
    """

    def physical(self, terminal: str) -> Row:
        """Return the node that a terminal belongs to."""
        return self.terminals[terminal]


_TERMINAL = re.compile(r"_\d+$")
NULL = "NULL"


def read_tables(folder: Path) -> Tables:
    """Read a folder; raises BadGrid, naming file and line, at the first thing that does not fit."""
    nodes = _by_id(_read(folder, "Node_physical.csv", "id vmR substation coordID subnet voltLvl"))
    coordinates = _by_id(_read(folder, "Coordinates.csv", "id x y"))
    substations = _read(folder, "Substation.csv", "id subnet voltLvl")
    transformers = _read(folder, "Transformer.csv", "id nodeHV nodeLV type loadingMax substation subnet voltLvl")
    lines = _read(folder, "Line.csv", "id nodeA nodeB type length loadingMax subnet voltLvl")
    switches = _read(folder, "Switch_cb_lbs_ds.csv", "id nodeA nodeB type cond substation subnet voltLvl")
    loads = _read(folder, "Load.csv", "id node profile pLoad sR subnet voltLvl")
    line_types = _by_id(_read(folder, "LineType.csv", "id iMax type"))
    transformer_types = _by_id(_read(folder, "TransformerType.csv", "id sR vmHV vmLV"))
    _check_column(lines, "type", line_types)
    _check_column(transformers, "type", transformer_types)
    for rows in (transformers, switches, list(nodes.values())):
        _check_column(rows, "substation", {NULL, *(row["id"] for row in substations)})
    return Tables(
        substations=substations,
        transformers=transformers,
        lines=lines,
        switches=switches,
        loads=loads,
        nodes=nodes,
        positions={node_id: _position(node, coordinates) for node_id, node in nodes.items()},
        line_types=line_types,
        transformer_types=transformer_types,
        terminals=_terminals(
            nodes,
            (
                (lines, ("nodeA", "nodeB")),
                (transformers, ("nodeHV", "nodeLV")),
                (switches, ("nodeA", "nodeB")),
                (loads, ("node",)),
            ),
        ),
    )


def _read(folder: Path, name: str, columns: str) -> list[Row]:
    path = folder / name
    if not path.is_file():
        raise BadGrid(f"{path} is not there; a SimBench folder has it.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=";")
        header = next(lines, [])
        missing = set(columns.split()) - set(header)
        if missing:
            raise BadGrid(f"{name} lacks the columns {', '.join(sorted(missing))}.")
        rows: list[Row] = []
        seen: set[str] = set()
        for fields in lines:
            if len(fields) != len(header):
                raise BadGrid(f"{name} line {lines.line_num} has {len(fields)} fields, its header {len(header)}.")
            row = dict(zip(header, fields, strict=True))
            if row["id"] in seen:
                raise BadGrid(f"{name} line {lines.line_num} repeats the id {row['id']!r}.")
            seen.add(row["id"])
            rows.append(row)
    return rows


def _by_id(rows: list[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows}


def _position(node: Row, coordinates: dict[str, Row]) -> tuple[float, float]:
    point = coordinates.get(node["coordID"])
    if point is None:
        raise BadGrid(f"Node {node['id']!r} names the coordinates {node['coordID']!r}, which Coordinates.csv lacks.")
    return float(point["x"]), float(point["y"])


def _check_column(rows: Iterable[Row], column: str, known: Container[str]) -> None:
    for row in rows:
        if row[column] not in known:
            raise BadGrid(f"{row['id']!r} names the {column} {row[column]!r}, which the folder does not have.")


def _terminals(nodes: dict[str, Row], tables: Iterable[tuple[list[Row], tuple[str, ...]]]) -> dict[str, Row]:
    terminals = dict(nodes)
    for rows, columns in tables:
        for row in rows:
            for column in columns:
                terminal = row[column]
                if terminal not in terminals:
                    node = nodes.get(_TERMINAL.sub("", terminal))
                    if node is None:
                        raise BadGrid(f"{row['id']!r} names the node {terminal!r}, which Node_physical.csv lacks.")
                    terminals[terminal] = node
    return terminals
