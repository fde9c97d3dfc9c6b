from typing import Any

import pytest

from busbar.routing.expressions import Expression, ExpressionError, Scope, compile_expression
from busbar.routing.tests.sample import EVENT


def value_of(source: str, event: dict[str, Any] = EVENT) -> Any:
    return compile_expression(source).evaluate(Scope(event))


def complaint_about(source: str, event: dict[str, Any] = EVENT) -> str:
    with pytest.raises(ExpressionError) as refused:
        value_of(source, event)
    assert (refused.value.code, refused.value.status) == ("VAL_001", 400)
    return refused.value.detail


class TestWhatAnExpressionSees:
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("event.type == 'PM_TICKET_CREATED' && data.severity in ['P1', 'P2']", True),
            ("data.customers_affected > 1000 ? 'high' : 'low'", "high"),
            ("event.site + '/' + data.asset.asset_id", "north/north-T-104"),
            ("has(data.closed_by)", False),
            ("data.closed_at == null", True),
            ("data['asset']['lat']", 53.5461),
            ("data.tags", ["oil", "cooling", "harbour"]),
            ("{'asset': data.asset.name, 'first': data.steps[0].customers}", {"asset": "T-104 Harbour", "first": 1240}),
            ("data.steps.exists(step, step.customers < 500)", True),
            ("data.steps.all(step, step.customers < 500)", False),
            ("data.steps.exists_one(step, step.customers == 310)", True),
            ("size(data.steps.filter(step, step.customers > 1000))", 1),
            ("data.asset.asset_id.matches('^[a-z]+-T-[0-9]{3}$')", True),
            (r"data.ticket_id.matches(r'^TKT-[A-Z]{2,4}-\d{8}-\d{4,}$')", True),
            ("double(data.customers_affected) / 2.0", 620.0),
            ("'3' + string(4)", "34"),
            ("event.subject", "TKT-PM-20261123-0001"),
        ],
    )
    def test_reads_envelope_and_payload(self, source: str, value: Any) -> None:
        assert value_of(source) == value

    def test_the_usual_attributes_are_null_when_the_event_has_none(self) -> None:
        bare = {"id": "1", "type": "PM_TICKET_CREATED", "source": "/busbar/north/pm"}
        assert value_of("[event.subject, event.time, event.site, event.correlationid]", bare) == [None] * 4

    def test_the_payload_is_not_part_of_the_envelope(self) -> None:
        assert "no `data`" in complaint_about("event.data")

    def test_the_event_given_stays_as_it_was(self) -> None:
        before = {**EVENT}
        value_of("data")
        assert before == EVENT
        assert "data" in EVENT


class TestTimes:
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("event.time", "2026-11-23T08:15:30Z"),
            ("event.time > timestamp('2026-11-23T08:15:00Z')", True),
            ("event.time + duration('1h30m')", "2026-11-23T09:45:30Z"),
            ("timestamp(data.sla_deadline) - event.time < duration('4h1s')", True),
            ("(timestamp(data.sla_deadline) - event.time).getSeconds()", 14_400),
            ("event.time.getFullYear()", 2026),
            ("event.time.getHours()", 8),
        ],
    )
    def test_can_be_compared_and_counted_with(self, source: str, value: Any) -> None:
        assert value_of(source) == value

    @pytest.mark.parametrize("time", ["yesterday", "2026-11-23T08:15:30", "0001-01-01T00:00:00+14:00", [1]])
    def test_an_event_with_a_bad_time_is_refused(self, time: Any) -> None:
        with pytest.raises(ExpressionError):
            Scope({**EVENT, "time": time})


class TestTextFunctions:
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("size(data.title)", len(EVENT["data"]["title"])),
            ("size('Übung')", 5),
            ("data.title.truncate(15)", "Übergabestation"),
            ("truncate('short', 40)", "short"),
            ("data.severity.lowerAscii()", "p1"),
            ("'straße Ü'.upperAscii()", "STRAßE Ü"),
            ("'  x '.trim()", "x"),
            ("'abcdef'.substring(2, 4)", "cd"),
            ("'abcdef'.substring(4)", "ef"),
        ],
    )
    def test_work_on_characters(self, source: str, value: Any) -> None:
        assert value_of(source) == value

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            ("'abc'.substring(2, 9)", "outside a text of 3 characters"),
            ("truncate('abc', -1)", "not negative"),
            ("truncate(3, 1)", "takes a text"),
            ("size(3)", "takes a text, a list or an object"),
            ("'abc'.substring('1')", "whole numbers"),
        ],
    )
    def test_say_what_they_take(self, source: str, reason: str) -> None:
        assert reason in complaint_about(source)


class TestComplaints:
    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("data.nope == 1", "At character 6: there is no `nope` in this event; ask first, as in `has("),
            ("data.severity = 'P1'", "At character 15: `=` is no operator; write `&&`, `||` or `==`."),
            ("data.severity == 'P1", "At character 18: this text has no closing quote"),
            ("severity == 'P1'", "At character 1: there is no `severity`; known are data, event"),
            ("data.severity ==", "At character 17: "),
            ("data.severity == P1", "At character 18: there is no `P1`"),
            ("(data.severity == 'P1'", "At character 1: `(` is never closed"),
            ("data.tags)", "At character 10: `)` closes nothing"),
            ("data.a\n  && data..b", "At line 2, character 11: a dot must follow a value"),
            ("data.severity.capitalise()", "there is no function `capitalise`"),
            ("data.tags.map(tag, tag + 's')", "there is no function `map`; use `=for` and `=each`"),
            ("data.severity + 1", "string + int"),
            ("data.severity > 1", "values of unlike types do not mix"),
            ("1 / 0", "divides by zero"),
            ("1 % 0", "divides by zero"),
            ("9223372036854775807 + 1", "64 bits"),
            ("data.steps[5]", "ask first"),
            ("data.severity.getHours()", "`getHours` cannot take these values"),
            ("timestamp('soon')", "`timestamp` fails"),
            ("1.0 / 0.0", "JSON cannot hold"),
            ("duration('1h')", "getSeconds()"),
            ("{1: 'a'}", "keys of an object must be texts"),
            ("", "is empty"),
            ("// every event\ntrue", "comments are not taken"),
            ("PM{a: 1}", "objects have no type name"),
            ("'''a'''", "three quotes"),
            ("b'a'", "there is no `b`"),
        ],
    )
    def test_name_the_place_and_the_cure(self, source: str, sentence: str) -> None:
        assert sentence in complaint_about(source)

    def test_a_filter_that_is_not_true_or_false_is_refused(self) -> None:
        with pytest.raises(ExpressionError, match='gives "P1", not true or false'):
            compile_expression("data.severity").holds(Scope(EVENT))

    def test_one_wrong_side_of_or_does_not_matter_when_the_other_is_true(self) -> None:
        assert compile_expression("data.nope == 1 || data.severity == 'P1'").holds(Scope(EVENT))


class TestScope:
    def test_serves_many_expressions(self) -> None:
        scope = Scope(EVENT)
        expressions: list[Expression] = [compile_expression(f"data.steps[{index}].customers") for index in (0, 1)]
        assert [expression.evaluate(scope) for expression in expressions] == [1240, 310]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ("a" * 70_000, "bytes"),
            ([[]] * 9_999, "values"),
            ({"a": {1, 2}}, None),
            ({"a": object()}, "not a JSON document"),
            ({"a": "\ud800"}, "not a JSON document"),
            ({(1, 2): 1}, "not a JSON document"),
        ],
    )
    def test_refuses_what_is_too_large_or_no_json(self, data: Any, reason: str | None) -> None:
        if reason is None:
            # A set has a JSON form in msgspec, a list; that is harmless.
            assert sorted(value_of("data.a", {**EVENT, "data": data})) == [1, 2]
            return
        with pytest.raises(ExpressionError, match=reason):
            Scope({**EVENT, "data": data})

    @pytest.mark.parametrize("levels", [70, 500, 100_000])
    def test_refuses_deep_nesting(self, levels: int) -> None:
        data: Any = 1
        for _ in range(levels):
            data = [data]
        with pytest.raises(ExpressionError, match=r"deep|not a JSON document"):
            Scope({**EVENT, "data": data})

    @pytest.mark.parametrize("number", [2**63, 2**80, -(2**63) - 1])
    def test_refuses_numbers_that_would_be_rounded(self, number: int) -> None:
        with pytest.raises(ExpressionError, match="does not fit into 64 bits; send it as a text"):
            Scope({**EVENT, "data": {"meters": [{"reading": number}]}})

    @pytest.mark.parametrize("number", [2**63 - 1, -(2**63), "9" * 30, 1.5])
    def test_keeps_numbers_that_fit(self, number: int | float | str) -> None:
        assert value_of("data.reading", {**EVENT, "data": {"reading": number}}) == number
