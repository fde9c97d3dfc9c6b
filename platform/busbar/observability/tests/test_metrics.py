"""Metrics: requests, gauges of features, the event loop."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from busbar.observability import metrics
from busbar.observability.loop_lag import LoopLag
from busbar.observability.metrics import GaugeFamily, Gauges, Reading
from busbar.observability.requests import RequestMetrics

TICKETS = GaugeFamily(name="test_tickets", help="Tickets.", labels=("status",))


def shown(*collectors) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


class TestRequestMetrics:
    def test_count_by_method_route_and_status(self) -> None:
        requests = RequestMetrics()
        for status in (200, 200, 404):
            requests.observe("GET", "/tickets/{ticket_id}", status, 0.003)
        values = shown(requests)
        labels = (("method", "GET"), ("route", "/tickets/{ticket_id}"))
        assert values["request_count_total", (*labels, ("status", "200"))] == 2
        assert values["request_count_total", (*labels, ("status", "404"))] == 1
        assert values["request_latency_seconds_count", labels] == 3
        assert values["request_latency_seconds_sum", labels] == pytest.approx(0.009)
        assert values["request_latency_seconds_bucket", (("le", "0.0025"), *labels)] == 0
        assert values["request_latency_seconds_bucket", (("le", "0.005"), *labels)] == 3

    def test_the_error_rate_is_the_share_of_our_own_faults(self) -> None:
        requests = RequestMetrics()
        assert requests.error_rate() == 0
        for status in (200, 404, 500, 503):
            requests.observe("GET", "/", status, 0.001)
        assert requests.error_rate() == 0.5
        assert shown(requests)["error_rate", ()] == 0.5

    def test_invented_methods_share_one_label(self) -> None:
        requests = RequestMetrics()
        for number in range(50):
            requests.observe(f"M{number}", "unmatched", 405, 0.001)
        assert [name for name, _labels in shown(requests)].count("request_count_total") == 1


class TestCollectorsOfFeatures:
    async def test_are_asked_at_a_scrape(self) -> None:
        gauges = Gauges()

        async def collect() -> list[Reading]:
            return [Reading(family="test_tickets", labels={"status": "Open"}, value=3)]

        gauges.register("tickets", collect, families=[TICKETS])
        await gauges.refresh()
        assert shown(gauges)["test_tickets", (("status", "Open"),)] == 3

    async def test_are_not_asked_again_within_the_cache_time(self) -> None:
        calls = 0

        async def collect() -> list[Reading]:
            nonlocal calls
            calls += 1
            return []

        gauges = Gauges()
        gauges.register("tickets", collect, families=[TICKETS])
        await asyncio.gather(*(gauges.refresh() for _ in range(20)))
        assert calls == 1

    @pytest.mark.parametrize("fault", ["raises", "hangs", "undeclared", "wrong labels"])
    async def test_that_fail_lose_their_own_values_and_no_others(self, fault: str) -> None:
        async def good() -> list[Reading]:
            return [Reading(family="test_tickets", labels={"status": "Open"}, value=1)]

        async def bad() -> list[Reading]:
            match fault:
                case "raises":
                    raise RuntimeError("no database")
                case "hangs":
                    await asyncio.Event().wait()
                case "undeclared":
                    return [Reading(family="surprise", value=1)]
            return [Reading(family="test_bad", labels={"wrong": "label"}, value=1)]

        gauges = Gauges()
        gauges.register("good", good, families=[TICKETS])
        gauges.register("bad", bad, families=[GaugeFamily(name="test_bad", help="Bad.")], timeout_s=0.05)
        await gauges.refresh()
        values = shown(gauges)
        assert values["test_tickets", (("status", "Open"),)] == 1
        assert values["collector_up", (("collector", "bad"),)] == 0
        assert values["collector_up", (("collector", "good"),)] == 1
        assert not any(name in ("test_bad", "surprise") for name, _labels in values)

    async def test_have_failed_0_times_before_they_fail(self) -> None:
        async def collect() -> list[Reading]:
            return []

        Gauges().register("never failed", collect, families=[TICKETS])
        assert metrics.registry.get_sample_value("collector_failures_total", {"collector": "never failed"}) == 0

    async def test_may_not_declare_each_others_families(self) -> None:
        async def collect() -> list[Reading]:
            return []

        gauges = Gauges()
        gauges.register("tickets", collect, families=[TICKETS])
        with pytest.raises(ValueError, match="tickets declares already"):
            gauges.register("other", collect, families=[TICKETS])
        gauges.register("tickets", collect, families=[TICKETS])

    async def test_the_whole_text_is_readable_by_prometheus(self) -> None:
        names = {family.name for family in text_string_to_metric_families((await metrics.exposition()).decode())}
        assert {"request_count", "request_latency_seconds", "error_rate", "log_lines_dropped"} <= names


class TestLoopLag:
    async def test_sees_a_loop_that_was_blocked(self) -> None:
        clock = iter([0.0, 0.35, 10.0, 10.01])
        second_sample = asyncio.Event()
        registry = CollectorRegistry()
        lag = LoopLag(registry=registry, interval_s=0.001, now_s=lambda: next(clock, 0.0))
        original = lag.observe

        def observe(lag_s: float) -> None:
            original(lag_s)
            if registry.get_sample_value("event_loop_lag_sample_seconds_count") == 2:
                second_sample.set()

        lag.observe = observe  # type: ignore[method-assign]
        task = asyncio.create_task(lag.run())
        await second_sample.wait()
        task.cancel()
        assert registry.get_sample_value("event_loop_lag_seconds") == pytest.approx(0.349)

    def test_may_be_started_again_in_the_same_process(self) -> None:
        registry = CollectorRegistry()
        LoopLag(registry=registry).observe(0.2)
        again = LoopLag(registry=registry)
        again.observe(0.1)
        assert registry.get_sample_value("event_loop_lag_seconds") == 0.1
