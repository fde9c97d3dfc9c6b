"""Money and quantities never pass through float: neither in a struct, nor in a column, nor on the way."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import busbar_pm
from busbar.sdk import Context, fetch

EXACT = re.compile(r"(^|_)(amount|cost|value|rate|quantity|price|hours|planned|issued|external|material|total)$")
"""Names of what is counted exactly; `share` and `voltage_kv` are not money."""
MEASURED_TIMES = {"Reliability"}
"""Hours here are measured times, and nothing is paid by them."""


def structs() -> Iterator[type[msgspec.Struct]]:
    for module in pkgutil.iter_modules(busbar_pm.__path__, "busbar_pm."):
        if module.name.split(".")[-1].startswith(("tests", "migrations", "indices")):
            continue
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and issubclass(thing, msgspec.Struct) and thing.__module__ == module.name:
                yield thing


def is_float(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return any(is_float(each) for each in info.types)
    if isinstance(info, msgspec.inspect.Metadata):
        return is_float(info.type)
    return isinstance(info, msgspec.inspect.FloatType)


class TestMoney:
    def test_is_a_decimal_in_every_struct(self) -> None:
        seen, wrong = 0, []
        for struct in structs():
            if struct.__name__ in MEASURED_TIMES:
                continue
            info = msgspec.inspect.type_info(struct)
            assert isinstance(info, msgspec.inspect.StructType)
            for field in info.fields:
                if EXACT.search(field.name):
                    seen += 1
                    wrong += [f"{struct.__name__}.{field.name}"] if is_float(field.type) else []
        assert seen > 25
        assert wrong == []

    async def test_is_numeric_in_every_column(self, ctx: Context) -> None:
        columns = await fetch(
            "select table_name, column_name, data_type from information_schema.columns where table_schema = 'pm' "
            "and column_name ~ '(^|_)(amount|cost|value|rate|quantity|hours)$'"
        )
        assert len(columns) >= 12
        assert [tuple(row) for row in columns if row["data_type"] != "numeric"] == []

    def test_is_never_made_a_float(self) -> None:
        files = [
            path
            for path in Path(busbar_pm.__path__[0]).glob("*.py")
            if path.name.startswith(("order", "plan", "measure", "inbound", "seed_plans"))
        ]
        assert len(files) > 10
        calls = [
            f"{path.name}:{node.lineno}"
            for path in files
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Name) and node.id == "float"
        ]
        assert calls == []
