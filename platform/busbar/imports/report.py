"""What became of each row of an import: all are counted, the rejected ones listed with field, value and reason."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

ERRORS_LISTED_MAX: Final = 1_000
VALUE_CHARACTERS_MAX: Final = 80

_SPREADSHEET_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class CellError(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a row is rejected."""

    field: str
    """The target field; empty when the row as a whole is to blame."""
    message: str
    value: str = ""
    """What the file has there, at most `VALUE_CHARACTERS_MAX` characters."""


class RowError(msgspec.Struct, frozen=True, kw_only=True):
    """One reason, with the row it rejects."""

    line: int
    """The line or spreadsheet row where the row begins, from 1, the header included."""
    field: str
    value: str
    message: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an import: `rows_read == rows_accepted + rows_rejected`, always."""

    rows_read: int
    rows_accepted: int
    rows_rejected: int
    errors: tuple[RowError, ...] = ()
    """At most `ERRORS_LISTED_MAX`, in the order of discovery; a row with several bad fields has one for each."""
    errors_total: int = 0
    """How many there are, listed or not."""
    outcomes: dict[str, int] = {}
    """What became of the accepted rows: `created`, `updated`, `unchanged`; with a bad row in an import of all or
    nothing, `withheld`."""

    def to_csv(self) -> str:
        """The listed errors as a CSV file (RFC 4180), with a last line that says how many are not listed.

        Values that a spreadsheet program would run as a formula get an apostrophe in front (OWASP, CSV injection).
        """
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(("line", "field", "value", "message"))
        for error in self.errors:
            writer.writerow((error.line, _inert(error.field), _inert(error.value), _inert(error.message)))
        unlisted = self.errors_total - len(self.errors)
        if unlisted:
            writer.writerow(("", "", "", f"{unlisted:,} more errors are not listed."))
        return out.getvalue()


class ReportBuilder:
    """Counts rows during an import. Each is accepted or rejected once; `revoke` makes an accepted one rejected."""

    def __init__(self, *, errors_listed_max: int = ERRORS_LISTED_MAX) -> None:
        self._errors_listed_max = errors_listed_max
        self._accepted = 0
        self._rejected = 0
        self._errors: list[RowError] = []
        self._errors_total = 0

    @property
    def rows_read(self) -> int:
        """So many rows were counted so far."""
        return self._accepted + self._rejected

    @property
    def rows_accepted(self) -> int:
        """So many of them are good, for all that is known so far."""
        return self._accepted

    @property
    def rows_rejected(self) -> int:
        """So many rows were rejected so far; with mode `all_or_nothing`, any is one too many."""
        return self._rejected

    def accept(self) -> None:
        """Count one good row."""
        self._accepted += 1

    def reject(self, line: int, errors: Sequence[CellError]) -> None:
        """Count one bad row and everything that is wrong with it; `errors` has at least one."""
        if not errors:
            raise ValueError(f"The row at line {line} is rejected without a reason.")
        self._rejected += 1
        self._errors_total += len(errors)
        for error in errors[: max(0, self._errors_listed_max - len(self._errors))]:
            value = excerpt(error.value)
            self._errors.append(RowError(line=line, field=error.field, value=value, message=error.message))

    def revoke(self, line: int, errors: Sequence[CellError]) -> None:
        """Reject a row that was accepted, because of what is found later: its parent is missing, its key is taken."""
        if not self._accepted:
            raise ValueError("No row was accepted that could be revoked.")
        self.reject(line, errors)
        self._accepted -= 1

    def report(self, outcomes: Mapping[str, int] | None = None) -> ImportReport:
        """Return what was counted so far; `outcomes` says what became of the accepted rows."""
        return ImportReport(
            rows_read=self._accepted + self._rejected,
            rows_accepted=self._accepted,
            rows_rejected=self._rejected,
            errors=tuple(self._errors),
            errors_total=self._errors_total,
            outcomes=dict(outcomes or {}),
        )


def excerpt(value: str) -> str:
    """The beginning of a value, on one line."""
    line = " ".join(value[: VALUE_CHARACTERS_MAX * 4].split())
    return line if len(line) <= VALUE_CHARACTERS_MAX else line[: VALUE_CHARACTERS_MAX - 1] + "…"


def _inert(value: str) -> str:
    return "'" + value if value.startswith(_SPREADSHEET_FORMULA) else value
