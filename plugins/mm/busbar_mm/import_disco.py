"""Imports the priced equipment of NREL DISCO's cost database: lines by the metre, transformers and controllers each."""

import asyncio
import csv
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from busbar.sdk import ImportReport, ImportRun, ReportBuilder, UnreadableFile
from busbar_mm.import_materials import StagedMaterial, load_materials
from busbar_mm.materials import MaterialFields

CURRENCY: Final = "USD"
FIELDS: Final = ("description", "unit_of_measure", "unit_price", "currency")
"""What the data says of a material; of one that is there, only these are changed."""
_PRICE_STEP: Final = Decimal("0.0001")
_PRICE_MAX: Final = Decimal(100_000_000)
_ROWS_MAX: Final = 10_000

_Row = Mapping[str, str]


def _line(row: _Row) -> tuple[str, str]:
    kind = {"new_line": "NEW", "reconductored_line": "RECOND"}[row["upgrade_type"]]
    place = {"overhead": "OH", "underground": "UG"}[row["line_placement"]]
    phases, volts, amperes = row["phases"], _number(row["voltage_kV"]), _number(row["ampere_rating"])
    words = {"NEW": "Line", "RECOND": "Line, new conductor"}[kind]
    return (
        f"LINE-{kind}-{place}-{phases}P-{volts}KV-{amperes}A",
        f"{words}, {row['line_placement']}, {phases}-phase {volts} kV {amperes} A",
    )


def _windings(row: _Row) -> tuple[str, str]:
    primary, secondary = _number(row["primary_kV"]), _number(row["secondary_kV"])
    connection = f"{row['primary_connection_type']}-{row['secondary_connection_type']}"
    rated = _number(row["rated_kVA"])
    short = "".join(word[0] for word in connection.upper().split("-"))
    return (
        f"{row['phases']}P-{primary}-{secondary}KV-{rated}KVA-{short}{row['num_windings']}",
        f"{row['phases']}-phase {primary}/{secondary} kV {rated} kVA, {connection}, {row['num_windings']} windings",
    )


def _transformer(row: _Row) -> tuple[str, str]:
    code, text = _windings(row)
    return f"TRF-{code}", f"Transformer, {text}"


def _regulator(row: _Row) -> tuple[str, str]:
    code, text = _windings(row)
    return f"REG-{code}", f"{row['type']}, {text}"


def _control(row: _Row) -> tuple[str, str]:
    return f"CTL-{'-'.join(row['type'].upper().split())}", row["type"]


_FILES: Final[tuple[tuple[str, str, str, Callable[[_Row], tuple[str, str]]], ...]] = (
    ("lines.csv", "cost_per_m", "m", _line),
    ("transformers.csv", "cost", "EA", _transformer),
    ("control_changes.csv", "cost", "EA", _control),
    ("voltage_regulators.csv", "cost", "EA", _regulator),
)
"""File, column of the price, unit, and what makes id and description of a row."""


async def import_disco(run: ImportRun) -> ImportReport:
    """Load the folder of the cost database's tables as materials with prices in US dollars; stock is not in it.

    Ids are made of what an item is, so they stay when the data is loaded again; items that differ in nothing but their
    place in the file are numbered, -2, -3 and so on.

    Raises:
        UnreadableFile: a table is missing, has other columns, or a value that cannot be read.
    """
    report = ReportBuilder()
    items = await asyncio.to_thread(lambda: list(read_items(run.path)))

    async def batches() -> AsyncIterator[list[StagedMaterial]]:
        for _ in items:
            report.accept()
        yield items
        run.progress(len(items))

    return report.report(await load_materials(run, batches(), report=report, fields=FIELDS))


def read_items(folder: Path) -> Iterator[StagedMaterial]:
    """The materials that the tables describe, numbered through all files.

    Raises:
        UnreadableFile: as with `import_disco`.
    """
    seen: dict[str, int] = {}
    number = 0
    for name, price_column, unit, naming in _FILES:
        for line, row in _rows(folder / name):
            number += 1
            try:
                material_id, description = naming(row)
                price = _price(row[price_column])
            except (KeyError, InvalidOperation, ValueError) as error:
                raise UnreadableFile(f"{name}, line {line}: {error!r} is not what this table should have.") from None
            seen[material_id] = seen.get(material_id, 0) + 1
            if seen[material_id] > 1:
                material_id = f"{material_id}-{seen[material_id]}"
            yield StagedMaterial(
                line=number,
                material_id=material_id,
                fields=MaterialFields(
                    description=description, unit_of_measure=unit, unit_price=price, currency=CURRENCY
                ),
            )


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.DictReader(file, strict=True), start=2):
                if line > _ROWS_MAX:
                    raise UnreadableFile(f"{path.name} has more than {_ROWS_MAX} rows.")
                yield line, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"{path.name} cannot be read: {error}.") from None


def _price(text: str) -> Decimal:
    price = Decimal(text)
    if not 0 <= price < _PRICE_MAX:
        raise ValueError(text)
    return price.quantize(_PRICE_STEP, rounding=ROUND_HALF_UP)


def _number(text: str) -> str:
    """A number without needless zeros: 25.0 is 25."""
    return f"{Decimal(text).normalize():f}"
