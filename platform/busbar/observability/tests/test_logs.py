"""Property 13: each log line is one JSON object with the required fields, whatever is logged."""

import datetime
import logging
import threading
from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from busbar.observability.correlation import correlated
from busbar.observability.logs import LEVELS, configure_logging, log_line
from busbar.observability.sink import LineSink
from busbar.observability.tests.conftest import Lines

any_text = st.text(st.characters(exclude_categories=()))
any_value = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        any_text,
        st.binary(),
        st.datetimes(),
        st.decimals(),
        st.uuids(),
        st.builds(object),
        st.complex_numbers(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(any_text, st.integers(), st.tuples(st.integers())), inner, max_size=5),
    ),
    max_leaves=20,
)


def decoded(line: bytes) -> dict[str, object]:
    assert line.endswith(b"\n")
    assert len(line.decode("utf-8").splitlines()) == 1
    return msgspec.json.decode(line, type=dict[str, object])


class TestEveryLogLine:
    @given(level=st.sampled_from(LEVELS), event=any_text, fields=st.dictionaries(any_text, any_value, max_size=6))
    def test_is_one_json_object_with_the_required_fields(self, level, event, fields) -> None:
        line = decoded(log_line(level, event, fields, correlation_id="c-1"))
        moment = datetime.datetime.fromisoformat(str(line["timestamp"]))
        assert moment.utcoffset() == datetime.timedelta(0)
        assert line["service"]
        assert line["log_level"] == level
        assert line["correlation_id"] == "c-1"
        assert isinstance(line["event"], str)

    @given(
        event=any_text, fields=st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), any_value, max_size=4)
    )
    def test_has_them_also_when_written_through_structlog(self, event, fields) -> None:
        written: list[bytes] = []
        sink = configure_logging(level="DEBUG", write=written.append)
        fields.pop("event", None)
        structlog.get_logger().warning(event, **{f"x_{name}": value for name, value in fields.items()})
        assert sink.flush()
        line = decoded(b"".join(written))
        assert line["log_level"] == "WARNING"
        assert line["correlation_id"] == "-"

    @pytest.mark.parametrize("name", ["timestamp", "service", "log_level", "correlation_id", "event"])
    def test_keeps_a_field_that_is_named_like_a_required_one_beside_it(self, name: str) -> None:
        line = decoded(log_line("INFO", "said", {name: "mine"}, correlation_id="c-1"))
        assert line[f"{name}_"] == "mine"
        assert line[name] != "mine"

    def test_names_the_correlation_id_of_the_work_at_hand(self, log_lines: Lines) -> None:
        with correlated("order-17"):
            structlog.get_logger().info("inside")
        structlog.get_logger().info("outside")
        assert [line["correlation_id"] for line in log_lines()] == ["order-17", "-"]

    @pytest.mark.parametrize(
        ("method", "level"),
        [("debug", "DEBUG"), ("info", "INFO"), ("warning", "WARNING"), ("error", "ERROR"), ("critical", "ERROR")],
    )
    def test_has_one_of_the_four_levels(self, log_lines: Lines, method: str, level: str) -> None:
        getattr(structlog.get_logger(), method)("said")
        assert [line["log_level"] for line in log_lines()] == [level]

    def test_keeps_decimals_dates_and_ids_readable(self) -> None:
        some_id = uuid4()
        line = decoded(
            log_line("INFO", "said", {"amount": Decimal("1.50"), "id": some_id, "day": datetime.date(2026, 1, 2)})
        )
        assert (line["amount"], line["id"], line["day"]) == ("1.50", str(some_id), "2026-01-02")

    def test_is_cut_when_a_text_is_endless(self) -> None:
        assert len(log_line("INFO", "x" * 1_000_000, {"more": "y" * 1_000_000})) < 20_000

    def test_below_the_level_is_not_written(self) -> None:
        written: list[bytes] = []
        sink = configure_logging(level="WARNING", write=written.append)
        structlog.get_logger().info("hidden")
        logging.getLogger("asyncpg").info("hidden")
        structlog.get_logger().warning("shown")
        assert sink.flush()
        assert [decoded(line)["event"] for line in written] == ["shown"]

    def test_level_must_be_a_known_one(self) -> None:
        with pytest.raises(ValueError, match="DEBUG, INFO, WARNING, ERROR"):
            configure_logging(level="LOUD")


class TestLoggersOfLibraries:
    @pytest.mark.parametrize("name", ["uvicorn.error", "asyncpg", "piccolo", "some.plugin"])
    def test_end_in_the_same_form(self, log_lines: Lines, name: str) -> None:
        with correlated("c-9"):
            logging.getLogger(name).warning("slow %s", "query")
        (line,) = log_lines()
        assert (line["event"], line["logger"], line["log_level"]) == ("slow query", name, "WARNING")
        assert line["correlation_id"] == "c-9"

    def test_keep_their_line_when_the_arguments_do_not_fit_the_text(self, log_lines: Lines) -> None:
        root = logging.getLogger()
        # pytest's own handlers raise at such a record; only ours is under test.
        root.handlers = [
            handler for handler in root.handlers if type(handler).__module__ == "busbar.observability.logs"
        ]
        logging.getLogger("some.plugin").error("%d", "not a number")
        assert [line["event"] for line in log_lines()] == ["%d"]

    def test_show_the_traceback(self, log_lines: Lines) -> None:
        try:
            raise RuntimeError("broken pump")
        except RuntimeError:
            logging.getLogger("some.plugin").exception("failed")
            structlog.get_logger().exception("failed_too")
        for line in log_lines():
            assert "RuntimeError: broken pump" in line["exception"]
            assert line["log_level"] == "ERROR"


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        ["password", "refresh_token", "Authorization", "client_secret", "api_key", "set-cookie", "webhook_secret"],
    )
    def test_are_hidden_by_the_name_of_their_field_at_any_depth(self, name: str) -> None:
        line = log_line("INFO", "said", {name: "hunter2", "settings": {"list": [{name: "hunter2"}]}})
        assert b"hunter2" not in line
        assert line.count(b"[redacted]") == 2

    @pytest.mark.parametrize(
        "text",
        [
            "GET with Authorization: Bearer hunter2",
            "postgresql://busbar:hunter2@db:5432/busbar refused",
            "token eyJhbGciOiJIUzI1NiJ9.hunter2.hunter2",
            "Basic hunter2",
        ],
    )
    def test_are_hidden_inside_texts(self, log_lines: Lines, text: str) -> None:
        structlog.get_logger().info("said", detail=text, more=[text])
        logging.getLogger("asyncpg").info(text)
        try:
            raise RuntimeError(text)
        except RuntimeError:
            structlog.get_logger().exception("failed")
        assert "hunter2" not in str(log_lines())

    def test_are_hidden_in_structs(self) -> None:
        class Login(msgspec.Struct):
            username: str
            password: str

        line = log_line("INFO", "said", {"login": Login(username="eva", password="hunter2")})
        assert b"eva" in line
        assert b"hunter2" not in line


class TestSinkUnderAStalledReader:
    def test_drops_lines_beyond_its_bound_and_counts_them(self) -> None:
        reader_goes_on = threading.Event()
        written: list[bytes] = []

        def stalled(data: bytes) -> None:
            reader_goes_on.wait(5)
            written.append(data)

        sink = LineSink(stalled, lines_max=10)
        for _ in range(1_000):
            sink.put(b"x\n")
        assert sink.dropped_count >= 1
        reader_goes_on.set()
        assert sink.flush()
        sink.close()
        assert b"".join(written).count(b"\n") + sink.dropped_count == 1_000

    def test_outlives_a_reader_that_went_away(self) -> None:
        def gone(_data: bytes) -> None:
            raise BrokenPipeError

        sink = LineSink(gone)
        sink.put(b"x\n")
        assert sink.flush()
        sink.close()
        assert sink.dropped_count == 1
