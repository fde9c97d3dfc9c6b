"""The report counts every row and lists a bounded number of errors."""

import csv
import io

import pytest

from busbar.imports.report import CellError, ReportBuilder, excerpt


class TestReportBuilder:
    def test_read_is_accepted_plus_rejected_and_every_bad_field_is_listed(self) -> None:
        builder = ReportBuilder()
        builder.accept()
        builder.reject(
            3, [CellError(field="name", message="is missing"), CellError(field="kv", message="no", value="x")]
        )
        report = builder.report()
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (2, 1, 1)
        assert [(error.line, error.field, error.value) for error in report.errors] == [(3, "name", ""), (3, "kv", "x")]

    def test_counts_the_errors_that_it_no_longer_lists(self) -> None:
        builder = ReportBuilder(errors_listed_max=3)
        for line in range(2, 12):
            builder.reject(line, [CellError(field="a", message="m"), CellError(field="b", message="m")])
        report = builder.report()
        assert (report.rows_rejected, report.errors_total, len(report.errors)) == (10, 20, 3)
        assert report.to_csv().splitlines()[-1] == ",,,17 more errors are not listed."

    def test_a_revoked_row_is_rejected_and_no_longer_accepted(self) -> None:
        builder = ReportBuilder()
        builder.accept()
        builder.accept()
        builder.revoke(2, [CellError(field="parent_id", message="is not there")])
        report = builder.report()
        assert (report.rows_read, report.rows_accepted, report.rows_rejected) == (2, 1, 1)

    def test_refuses_to_revoke_what_was_never_accepted_and_to_reject_without_reason(self) -> None:
        with pytest.raises(ValueError, match="No row was accepted"):
            ReportBuilder().revoke(2, [CellError(field="", message="m")])
        with pytest.raises(ValueError, match="without a reason"):
            ReportBuilder().reject(2, [])


class TestCsv:
    def test_can_be_read_back_and_runs_no_formula_in_a_spreadsheet(self) -> None:
        builder = ReportBuilder()
        builder.reject(7, [CellError(field="name", value='=HYPERLINK("http://x","y")', message='is "bad", really')])
        (row,) = csv.DictReader(io.StringIO(builder.report().to_csv()))
        assert row == {
            "line": "7",
            "field": "name",
            "value": '\'=HYPERLINK("http://x","y")',
            "message": 'is "bad", really',
        }


class TestExcerpt:
    def test_is_one_short_line(self) -> None:
        assert excerpt("a\n\tb ") == "a b"
        assert len(excerpt("x" * 10_000)) == 80
        assert excerpt("x" * 10_000).endswith("…")
