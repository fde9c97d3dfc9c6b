"""The files of Prometheus and Grafana, and the queries in them."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMETHEUS = ROOT / "ops" / "prometheus"
DASHBOARDS = ROOT / "ops" / "grafana" / "dashboards"

_KEYWORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "offset"}
_COMPARISON = re.compile(r"(?<=\s)(==|!=|<=|>=|<|>)(?=\s)")


class Rule(NamedTuple):
    """A recording or alert rule."""

    group: str
    name: str
    expr: str
    body: dict[str, Any]


class Panel(NamedTuple):
    """A panel that asks something."""

    dashboard: str
    title: str
    queries: tuple[str, ...]
    body: dict[str, Any]


def read_yaml(path: Path) -> Any:
    """What a YAML file says."""
    return yaml.safe_load(path.read_text("utf-8"))


def rules(name: str) -> list[Rule]:
    """The rules of `recording` or `alerts`, in their order."""
    return [
        Rule(group["name"], rule.get("alert") or rule["record"], rule["expr"], rule)
        for group in read_yaml(PROMETHEUS / "rules" / f"{name}.yml")["groups"]
        for rule in group["rules"]
    ]


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> list[Panel]:
    """The panels of all dashboards, but the headings of rows."""
    return [
        Panel(name, panel["title"], tuple(target["expr"] for target in panel["targets"]), panel)
        for name, dashboard in dashboards().items()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    ]


def as_number(expr: str) -> str:
    """The query, answering 0 or 1 where an alert's condition would leave out what does not meet it.

    So a condition that is not met returns data all the same, and one that looks at what is not there returns nothing.
    """
    return _COMPARISON.sub(r"\1 bool", expr)


def metric_names(expr: str) -> set[str]:
    """The names of metrics and recordings in a query."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', "", expr)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", text) if name not in _KEYWORDS}
