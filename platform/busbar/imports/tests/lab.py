"""A plugin for tests whose importer does what the file says."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from busbar.auth.permissions import Permission, RoleDefault
from busbar.errors import RuleViolated
from busbar.hookspecs import PluginInfo
from busbar.host.loader import Plugin
from busbar.imports.contract import Importer, ImportRun
from busbar.imports.report import CellError, ImportReport, ReportBuilder


class LabRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    name: str
    weight_kg: float = 0


class Lab:
    """The plugin, and what its importers were given."""

    def __init__(self) -> None:
        self.runs: list[ImportRun] = []
        self.names: list[list[str]] = []
        """Of each folder that was imported, the names of its files."""
        self.go_on = asyncio.Event()
        """An importer that reads `wait` waits for it."""

    async def lines(self, run: ImportRun) -> ImportReport:
        """Every line is a row; those that begin with `bad` are rejected, and some lines are commands."""
        self.runs.append(run)
        report = ReportBuilder()
        for number, line in enumerate(run.path.read_text().splitlines(), start=1):
            if line == "refuse":
                raise RuleViolated("The file is refused.")
            if line == "crash":
                raise ZeroDivisionError("a secret of the program")
            if line == "wait":
                await self.go_on.wait()
            if line.startswith("bad"):
                report.reject(number, [CellError(field="name", value=line, message="is bad")])
            else:
                report.accept()
            run.progress(1)
        return report.report({"created": report.rows_accepted})

    async def folder(self, run: ImportRun) -> ImportReport:
        """Every file is a row."""
        self.runs.append(run)
        self.names.append(sorted(path.name for path in run.path.iterdir()))
        report = ReportBuilder()
        for _ in self.names[-1]:
            report.accept()
        return report.report({"created": report.rows_accepted})

    @property
    def paths(self) -> Sequence[Path]:
        """Where the files were, in the order of the imports."""
        return [run.path for run in self.runs]

    def plugin(self) -> Plugin:
        """What the core sees of it."""
        return Plugin(
            name="lab",
            info=PluginInfo(name="lab", title="Laboratory", version="1", core=">=0", module=True),
            permissions=(Permission(name="lab.import", title="Import into the laboratory"),),
            roles=(
                RoleDefault(role="Researcher", title="Researcher", permissions=("lab.import", "imports.read")),
                RoleDefault(role="Reader", title="Reader", permissions=("imports.read",)),
            ),
            importers=(
                Importer(name="lab.lines", title="Lines", permission="lab.import", run=self.lines, target=LabRow),
                Importer(name="lab.folder", title="Folders", permission="lab.import", run=self.folder, folder=True),
            ),
        )
