"""Values, literals and multipart bodies as OData V2 writes them."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busbar_erp.model import Field, entity_set_of, services
from busbar_erp.multipart import (
    HttpAnswer,
    HttpRequest,
    Malformed,
    answer_bytes,
    boundary_of,
    join,
    read_answer,
    read_request,
    request_bytes,
    split,
)
from busbar_erp.values import DoesNotFit, cut, decimal_of, encoded, literal, moment_of, time_of

TEXT = Field(name="NotificationText", type="String", length=40)
QUANTITY = Field(name="RequestedQuantity", type="Decimal", precision=13, scale=3)
DAY = Field(name="PostingDate", type="DateTime")
MOMENT = Field(name="LastChangeDateTime", type="DateTimeOffset")


class TestEncoding:
    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            (TEXT, "a'b", "a'b"),
            (QUANTITY, Decimal("5"), "5.000"),
            (QUANTITY, Decimal("1E+3"), "1000.000"),
            (DAY, date(2026, 11, 28), "/Date(1795824000000)/"),
            (MOMENT, datetime(2026, 11, 28, 1, tzinfo=timezone(timedelta(hours=1))), "/Date(1795824000000)/"),
            (Field(name="T", type="Time"), time(9, 5, 7), "PT09H05M07S"),
            (TEXT, None, None),
        ],
    )
    def test_of_json(self, field: Field, value: object, text: object) -> None:
        assert encoded(field, value) == text  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            (TEXT, "O'Neil", "'O''Neil'"),
            (QUANTITY, Decimal("5"), "5.000M"),
            (DAY, date(2026, 11, 28), "datetime'2026-11-28T00:00:00'"),
            (MOMENT, datetime(2026, 11, 28, tzinfo=UTC), "datetimeoffset'2026-11-28T00:00:00Z'"),
            (Field(name="B", type="Boolean"), True, "true"),
        ],
    )
    def test_of_literals(self, field: Field, value: object, text: str) -> None:
        assert literal(field, value) == text  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("field", "value", "sentence"),
        [
            (TEXT, "x" * 41, "NotificationText takes 40 characters"),
            (TEXT, 7, "NotificationText takes a text"),
            (QUANTITY, Decimal("0.0001"), "RequestedQuantity takes 13 digits, 3 behind the point"),
            (QUANTITY, Decimal("1E+10"), "RequestedQuantity takes 13 digits"),
            (QUANTITY, 1.5, "RequestedQuantity takes a decimal number"),
            (QUANTITY, True, "RequestedQuantity takes a decimal number"),
            (DAY, "2026-11-28", "PostingDate takes a DateTime"),
        ],
    )
    def test_refuses_what_does_not_fit_by_name(self, field: Field, value: object, sentence: str) -> None:
        with pytest.raises(DoesNotFit, match=sentence):
            encoded(field, value)  # type: ignore[arg-type]

    def test_reads_what_others_write(self) -> None:
        assert moment_of("/Date(1795824000000+0060)/") == datetime(2026, 11, 28, tzinfo=UTC)
        assert (moment_of("/Date(x)/"), moment_of(None), moment_of("/Date(99999999999999999)/")) == (None, None, None)
        assert (decimal_of("12.50"), decimal_of(12.5), decimal_of("NaN"), decimal_of("x")) == (
            Decimal("12.50"),
            None,
            None,
            None,
        )
        assert (time_of("PT9H"), time_of("PT"), time_of("PT25H00M00S")) == (time(9), None, None)

    @given(st.text(max_size=100))
    @settings(max_examples=40)
    def test_a_cut_text_fits_and_says_that_it_was_cut(self, text: str) -> None:
        line = " ".join(text.split())
        short = cut(text, 40)
        assert len(short) <= 40
        assert short == line or short.endswith("…")


class TestCatalog:
    def test_every_navigation_leads_to_a_set_with_its_parents_key(self) -> None:
        for service in services().values():
            for parent in service.sets.values():
                for target in parent.navigations.values():
                    assert set(parent.keys) <= set(service.sets[target].keys)

    def test_the_limits_that_bite_are_in_it(self) -> None:
        notification = entity_set_of("API_MAINTNOTIFICATION", "MaintenanceNotification")
        assert notification.fields["NotificationText"].length == 40
        assert not notification.fields["NotifProcessingPhase"].updatable
        assert entity_set_of("API_MATERIAL_DOCUMENT_SRV", "A_MaterialDocumentHeader").keys == (
            "MaterialDocumentYear",
            "MaterialDocument",
        )


class TestMultipart:
    @given(st.binary(max_size=200))
    @settings(max_examples=40)
    def test_requests_survive_the_way(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        sent = HttpRequest(method="PATCH", target="A_Set('1')", headers=headers, body=body)
        [part] = split(join([({"Content-Type": "application/http"}, request_bytes(sent))], "b0undary"), "b0undary")
        got = read_request(part.body)
        assert (got.method, got.target, got.body) == ("PATCH", "A_Set('1')", body)

    def test_answers_survive_the_way(self) -> None:
        body = b'{"error":{}}'
        parts = [({}, answer_bytes(HttpAnswer(status=status, body=body))) for status in (201, 412)]
        got = [read_answer(part.body) for part in split(join(parts, "b"), "b")]
        assert [(one.status, one.body) for one in got] == [(201, body), (412, body)]

    @pytest.mark.parametrize("body", [b"", b"--b\r\n", b"--b\r\n\r\nx", b"--other--\r\n"])
    def test_a_body_without_its_end_is_refused(self, body: bytes) -> None:
        with pytest.raises(Malformed):
            split(body, "b")

    @pytest.mark.parametrize("text", ["", "application/json", "multipart/mixed", "text/plain; boundary=b"])
    def test_a_content_type_without_a_boundary_is_refused(self, text: str) -> None:
        with pytest.raises(Malformed):
            boundary_of(text)

    def test_a_header_with_a_line_break_is_refused(self) -> None:
        with pytest.raises(Malformed, match="line break"):
            join([({"X-Correlation-ID": "a\r\nb: c"}, b"")], "b")
