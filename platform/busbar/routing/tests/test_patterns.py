import pytest

from busbar.routing.patterns import BadPattern, EventPattern, check_pattern, module_of, site_of, type_matches
from busbar.routing.tests.sample import EVENT


class TestTypePatterns:
    @pytest.mark.parametrize(
        ("pattern", "event_type", "wanted"),
        [
            ("*", "PM_TICKET_CREATED", True),
            ("PM_*", "PM_TICKET_CREATED", True),
            ("PM_*", "PMX_TICKET_CREATED", False),
            ("PM_*", "MM_STOCK_CHANGED", False),
            ("PM_TICKET_CREATED", "PM_TICKET_CREATED", True),
            ("PM_TICKET_CREATED", "PM_TICKET_CREATED_AGAIN", False),
            ("PM_TICKET", "PM_TICKET_CREATED", False),
        ],
    )
    def test_a_name_is_that_type_and_a_star_ends_a_prefix(self, pattern: str, event_type: str, wanted: bool) -> None:
        assert type_matches(pattern, event_type) is wanted

    def test_case_matters(self) -> None:
        assert not type_matches("pm_*", "PM_TICKET_CREATED")


class TestEventPattern:
    def test_takes_everything_when_nothing_is_named(self) -> None:
        assert EventPattern().matches(EVENT)

    def test_wants_type_site_and_module_together(self) -> None:
        assert EventPattern(types=("MM_*", "PM_*"), sites=("south", "north"), modules=("pm",)).matches(EVENT)
        assert not EventPattern(types=("PM_*",), sites=("south",)).matches(EVENT)
        assert not EventPattern(types=("PM_*",), modules=("mm",)).matches(EVENT)

    def test_says_what_does_not_fit(self) -> None:
        assert "type is PM_TICKET_CREATED; the route wants MM_*" in str(EventPattern(types=("MM_*",)).mismatch(EVENT))
        assert "site is north; the route wants south" in str(EventPattern(sites=("south",)).mismatch(EVENT))
        assert "module is pm; the route wants mm" in str(EventPattern(modules=("mm",)).mismatch(EVENT))

    def test_an_event_without_site_or_source_fits_only_open_patterns(self) -> None:
        event = {"type": "PM_TICKET_CREATED", "source": "urn:elsewhere"}
        assert EventPattern().matches(event)
        assert not EventPattern(sites=("north",)).matches(event)
        assert not EventPattern(modules=("pm",)).matches(event)


class TestSource:
    def test_gives_site_and_module(self) -> None:
        assert site_of({"source": "/busbar/north/pm"}) == "north"
        assert module_of({"source": "/busbar/north/pm"}) == "pm"

    def test_the_extension_site_goes_before_the_source(self) -> None:
        assert site_of({"source": "/busbar/north/pm", "site": "south"}) == "south"


class TestCheckPattern:
    def test_accepts_what_operators_write(self) -> None:
        check_pattern(EventPattern(types=("*", "PM_*", "PM_TICKET_CREATED"), sites=("north-1",), modules=("pm",)))

    @pytest.mark.parametrize(
        ("bad", "cure"),
        [
            ("PM_*,MM_*", "an entry of its own"),
            ("PM_ *", "an entry of its own"),
            ("*_CREATED", "only at the end"),
            ("P*M*", "only at the end"),
            ("", "PM_TICKET_CREATED"),
            ("A" * 101, "at most 100"),
        ],
    )
    def test_names_the_bad_type_and_its_cure(self, bad: str, cure: str) -> None:
        with pytest.raises(BadPattern) as refused:
            check_pattern(EventPattern(types=("PM_*", bad)))
        (error,) = refused.value.errors
        assert error.field == "types[1]"
        assert cure in error.message

    def test_names_every_bad_entry_at_once(self) -> None:
        with pytest.raises(BadPattern) as refused:
            check_pattern(EventPattern(types=("a,b",), sites=("no rth", "north"), modules=("p*",)))
        assert [error.field for error in refused.value.errors] == ["types[0]", "sites[0]", "modules[0]"]

    def test_refuses_no_type_at_all(self) -> None:
        with pytest.raises(BadPattern):
            check_pattern(EventPattern(types=()))
