"""What `/metrics` shows of the database pools of this process: how much of each is in use, and whom it sent away."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from busbar.db import DB


class PoolMetrics(Collector):
    """Read at the moment of a scrape; without a started pool there is nothing to read."""

    def collect(self) -> Iterable[Metric]:
        """Connections by pool and state, the limit of each pool, and how often it had none to give."""
        connections = GaugeMetricFamily(
            "busbar_pool_connections", "Database connections by pool, in use or idle.", labels=("pool", "state")
        )
        limits = GaugeMetricFamily(
            "busbar_pool_connections_max", "Most connections that a pool may have.", labels=("pool",)
        )
        refusals = CounterMetricFamily(
            "busbar_pool_refusals", "Times that a pool had no connection to give in time.", labels=("pool",)
        )
        for name, pool in list(DB.pools.items()):
            idle = pool.get_idle_size()
            connections.add_metric((name, "idle"), idle)
            connections.add_metric((name, "used"), pool.get_size() - idle)
            limits.add_metric((name,), pool.get_max_size())
            refusals.add_metric((name,), DB.refusals.get(name, 0))
        return (connections, limits, refusals)
