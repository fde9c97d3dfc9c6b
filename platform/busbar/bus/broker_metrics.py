"""What `/metrics` shows of the broker; nothing of it moves while Busbar runs without one."""

from typing import Final

from prometheus_client import Counter, Gauge

from busbar.observability.metrics import GaugeFamily, registry

broker_connected: Final = Gauge(
    "busbar_broker_connected", "1 while this process can publish to the broker, else 0.", registry=registry
)
bus_taken: Final = Counter(
    "busbar_bus_taken",
    "Deliveries that this process took: on a message of the broker (bus), or from the ledger itself (ledger).",
    ["path"],
    registry=registry,
)
bus_refused: Final = Counter(
    "busbar_bus_refused", "Messages that could not be read, and were dead-lettered at the broker.", registry=registry
)
PUBLICATION_LAG: Final = GaugeFamily(
    name="busbar_publication_lag_events",
    help="Events that the broker has not confirmed yet; not there without a broker.",
)

for _path in ("bus", "ledger"):
    bus_taken.labels(_path)
