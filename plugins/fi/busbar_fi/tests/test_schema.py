"""The migrations make what the tables say, and money is decimal everywhere."""

import ast
import re
from pathlib import Path

import pytest

from busbar.sdk import Context
from busbar.testing.plugins import drift_of
from busbar_fi.tests.conftest import FI

PLUGINS = Path(__file__).resolve().parents[3]
MONEY_NAME = re.compile(r"amount|price|cost|budget|value|money")
SQL_MONEY = re.compile(
    r"^\s*\w*(amount|price|cost|budget|money)\w*\s+(double precision|real|float\d*)\b", re.IGNORECASE | re.MULTILINE
)


class TestTheMigratedSchema:
    async def test_is_the_one_that_the_tables_define_with_references_added(self, ctx: Context) -> None:
        # The references lead to the core's tables, too, which a plugin has no classes of; so SQL makes them.
        reference = re.compile(r"not in the tables: (\w+) f FOREIGN KEY \((\w+)\) REFERENCES ([\w.]+)\(\w+\)")
        found = [reference.fullmatch(line) or line for line in await drift_of(FI)]
        assert sorted(match.groups() if isinstance(match, re.Match) else (match,) for match in found) == [
            ("approval_level", "approval_id", "fi.approval_request"),
            ("approval_request", "cost_center_id", "fi.cost_center"),
            ("approval_request", "ticket_id", "core.ticket"),
            ("budget_year", "cost_center_id", "fi.cost_center"),
            ("commitment", "cost_center_id", "fi.cost_center"),
            ("cost_center", "parent_id", "fi.cost_center"),
            ("cost_entry", "cost_center_id", "fi.cost_center"),
            ("cost_entry", "reverses", "fi.cost_entry"),
            ("cost_entry", "ticket_id", "core.ticket"),
        ]


def floats_in(path: Path) -> list[str]:
    """Where a name of money is a float, or is made one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        is_bad = False
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_bad = bool(MONEY_NAME.search(node.target.id)) and mentions_float(node.annotation)
            # A Piccolo column.
            if isinstance(node.value, ast.Call):
                is_bad |= bool(MONEY_NAME.search(node.target.id)) and is_float_column(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            is_bad = any(MONEY_NAME.search(name) for name in names) and is_float_column(node.value)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            is_bad = bool(MONEY_NAME.search(node.arg)) and mentions_float(node.annotation)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            is_bad = bool(MONEY_NAME.search(" ".join(ast.unparse(argument) for argument in node.args)))
        if is_bad:
            found.append(f"{path.name}:{node.lineno}")  # type: ignore[attr-defined]
    return found


def mentions_float(annotation: ast.AST) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "float" for node in ast.walk(annotation))


def is_float_column(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in ("DoublePrecision", "Real", "Float", "float")


class TestMoney:
    @pytest.mark.parametrize("plugin", ["fi", "mm", "pm"])
    def test_never_passes_through_a_float(self, plugin: str) -> None:
        files = [path for path in (PLUGINS / plugin).rglob("*.py") if "tests" not in path.parts]
        assert files
        assert [place for path in files for place in floats_in(path)] == []

    @pytest.mark.parametrize("plugin", ["fi", "mm", "pm"])
    def test_is_numeric_in_the_database(self, plugin: str) -> None:
        files = list((PLUGINS / plugin).rglob("*.sql"))
        assert [(path.name, match[0]) for path in files for match in SQL_MONEY.finditer(path.read_text("utf-8"))] == []

    def test_would_be_found_as_a_float(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.py"
        wrong.write_text(
            "unit_price: float = 0.5\n"
            "budget_amount = DoublePrecision(default=None)\n"
            "def book(amount: float | None) -> None: ...\n"
            "total = float(row['total_cost'])\n"
            "latitude: float = 1.0\n"
        )
        assert sorted(floats_in(wrong)) == ["wrong.py:1", "wrong.py:2", "wrong.py:3", "wrong.py:4"]
        assert SQL_MONEY.search("    unit_price DOUBLE PRECISION,")
