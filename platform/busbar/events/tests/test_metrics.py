"""What the gauges say of the outbox and the ledger."""

import pytest

from busbar.db import execute
from busbar.events import ledger
from busbar.events.ledger import Outcome
from busbar.events.metrics import LedgerReadings, register_ledger_metrics
from busbar.events.tests.facts import a_relay, a_subscription, tell
from busbar.observability import metrics

pytestmark = pytest.mark.usefixtures("database")


async def read() -> dict[tuple[str, ...], float]:
    """The readings by family and labels."""
    return {(each.family, *each.labels.values()): each.value for each in await LedgerReadings().collect()}


class TestLedgerReadings:
    async def test_are_zero_when_nothing_happened(self) -> None:
        assert await read() == {
            ("outbox_lag_seconds",): 0,
            ("outbox_waiting",): 0,
            ("dead_letter_age_seconds",): 0,
        }

    async def test_show_how_long_the_oldest_event_waits_for_the_relay(self) -> None:
        await tell(1)
        await tell(2)
        await execute("update core.event set time = now() - interval '90 s' where data->>'n' = '1'")
        readings = await read()
        assert readings["outbox_waiting",] == 2
        assert 90 <= readings["outbox_lag_seconds",] < 120
        await a_relay().move_batch()
        readings = await read()
        assert (readings["outbox_waiting",], readings["outbox_lag_seconds",]) == (0, 0)

    async def test_count_deliveries_by_subscription_and_state_and_the_age_of_the_oldest_dead_letter(self) -> None:
        for n in range(3):
            await tell(n, subject=f"S-{n}")
        await tell(3, site="bare")
        await a_relay(a_subscription()).move_batch()
        one, two = await ledger.claim({"tst.reader": 2}, worker=1)
        await ledger.settle([(one, Outcome(state="delivered")), (two, Outcome(state="dead", detail="poison"))])
        await execute("update core.delivery set finished_at = now() - interval '1 h' where state = 'dead'")
        readings = await read()
        states = {key[2]: value for key, value in readings.items() if key[0] == "deliveries_by_state"}
        assert states == {"pending": 1, "retrying": 0, "in_flight": 0, "delivered": 1, "dead": 1, "skipped": 1}
        assert 3600 <= readings["dead_letter_age_seconds",] < 3700

    async def test_stand_in_the_exposition(self) -> None:
        register_ledger_metrics()
        try:
            await tell(1)
            text = (await metrics.exposition()).decode()
        finally:
            metrics.gauges.unregister("ledger")
        assert "\noutbox_waiting 1.0\n" in text
        assert 'collector_up{collector="ledger"} 1.0' in text
