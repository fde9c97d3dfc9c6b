"""What a benchmark finds: tables and goals; printed, kept in results.json, and written into the README."""

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
BEGIN = "<!-- results: written by python -m benchmarks -->"
END = "<!-- end of results -->"

Cell = str | int | float | None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers with their names; a float shows three digits that count."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What was hoped for, and what was found."""

    text: str
    """With the limit in it, such as `cold start ≤ 20 s`."""
    found: float
    met: bool


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Findings as they stand in results.json."""

    question: str
    day: dt.date
    quick: bool
    machine: dict[str, str]
    findings: Findings


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how much: in full, or a tenth of it to try a benchmark out."""

    quick: bool = False

    def seconds(self, full: float) -> float:
        """How long to measure."""
        return max(1.0, full / 10) if self.quick else full

    def count(self, full: int) -> int:
        """How many to make."""
        return max(1, full // 10) if self.quick else full


def at_least(text: str, found: float, limit: float) -> Goal:
    """The goal that something is `limit` or more."""
    return Goal(text=f"{text} ≥ {limit:g}", found=found, met=found >= limit)


def at_most(text: str, found: float, limit: float) -> Goal:
    """The goal that something is `limit` or less."""
    return Goal(text=f"{text} ≤ {limit:g}", found=found, met=found <= limit)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle of some values; of an even number the upper one of the two."""
    return quantile(values, 0.5)


def machine() -> dict[str, str]:
    """What the numbers depend on, and nothing that names the machine."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{memory_gb:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres_version(),
    }


def postgres_version() -> str:
    """Of the server that Busbar would start here."""
    from busbar.db.binaries import candidates

    for folder in candidates():
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.split()[2]
    return "unknown"


def keep(name: str, kept: Kept) -> None:
    """Put one benchmark's findings into results.json, and all of them into the README."""
    results = read()
    results[name] = kept
    ordered = dict(sorted(results.items()))
    text = msgspec.json.format(msgspec.json.encode(ordered), indent=1).decode()
    RESULTS.write_text(text + "\n", "utf-8")
    before, rest = README.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n{in_markdown(ordered)}\n{END}{after}", "utf-8")


def read() -> dict[str, Kept]:
    """All findings that are kept."""
    if not RESULTS.exists():
        return {}
    return msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, Kept])


def in_markdown(results: dict[str, Kept]) -> str:
    """The README's part."""
    parts = []
    for name, kept in results.items():
        size = ", a quick run: too short for conclusions" if kept.quick else ""
        facts = ", ".join(f"{key} {value}" for key, value in kept.machine.items())
        parts.append(f"### {kept.question}\n\n`python -m benchmarks {name}`, {kept.day:%Y-%m-%d}{size}; {facts}.\n")
        for goal in kept.findings.goals:
            parts.append(f"- {'Met' if goal.met else '**Missed**'}: {goal.text}; found {shown(goal.found)}.")
        if kept.findings.goals:
            parts.append("")
        for table in kept.findings.tables:
            parts.append(f"{table.title}:\n")
            parts.append("| " + " | ".join(table.columns) + " |")
            parts.append("|" + "|".join("---" if n == 0 else "---:" for n in range(len(table.columns))) + "|")
            parts += ["| " + " | ".join(shown(cell) for cell in row) + " |" for row in table.rows]
            parts.append("")
        parts += [f"{note}\n" for note in kept.findings.notes]
    return "\n".join(parts)


def in_plain_text(findings: Findings) -> str:
    """For the terminal."""
    lines: list[str] = []
    for table in findings.tables:
        rows = [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(table.columns))]
        lines.append(f"\n{table.title}")
        for row in rows:
            first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([first.strip().ljust(widths[0]), *rest]))
    lines += [
        "",
        *(f"{'met' if goal.met else 'MISSED'}: {goal.text}; found {shown(goal.found)}" for goal in findings.goals),
    ]
    lines += findings.notes
    return "\n".join(lines)


def shown(cell: Any) -> str:
    """A cell as text."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
