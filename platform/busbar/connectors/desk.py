"""The endpoints of this process: read from the database, each with its lane, its breaker and its HTTP session."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from busbar.bus.worker import Lane
from busbar.connectors.breaker import BreakerPolicy
from busbar.connectors.contract import Connector
from busbar.connectors.egress import Gate, read_allow_list
from busbar.connectors.lane import EndpointLane
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.references import References
from busbar.connectors.secrets import KeyRing
from busbar.connectors.shared_breaker import POLICY, SharedBreaker, decode_breaker
from busbar.db import fetch
from busbar.db.wakeup import Channel, poke
from busbar.kit.clock import Clock
from busbar.observability.metrics import BREAKER_STATE, Reading, register_collector

_READ = """
select endpoint_id, connector, name, sites, settings, secrets, runner, active, breaker, version from core.endpoint
"""
_BREAKERS = "select endpoint_id, breaker from core.endpoint where active order by endpoint_id"
_PHASE_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class EndpointDesk:
    """Knows every endpoint; one for each process."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        *,
        key_ring: KeyRing,
        egress: Sequence[str],
        allow_loopback: bool,
        clock: Clock,
        quarantined: Callable[[str], bool],
        policy: BreakerPolicy = POLICY,
    ) -> None:
        """`connectors` by kind; `egress` are the lines of the operator's allow-list.

        Raises:
            BadAllowEntry: a line of the allow-list cannot be read.
        """
        self.connectors = dict(connectors)
        self.key_ring = key_ring
        self.gate = Gate(allow=read_allow_list(egress), allow_loopback=allow_loopback)
        self.references = References()
        self.clock = clock
        self._quarantined = quarantined
        self._policy = policy
        self._endpoints: dict[str, OpenEndpoint] = {}
        self._lanes: dict[str, EndpointLane] = {}
        self._refreshing = asyncio.Lock()
        register_collector("connectors", breaker_readings, families=(BREAKER_STATE,))

    def ids(self) -> list[str]:
        """The ids of all endpoints."""
        return sorted(self._endpoints)

    def lane(self, endpoint_id: str) -> Lane:
        """Where the deliveries to an endpoint are worked on; that of an unknown endpoint takes nothing."""
        return self._lane(endpoint_id)

    def get(self, endpoint_id: str) -> OpenEndpoint | None:
        """The endpoint as this process knows it, whatever its state; see `fault` and `active`."""
        return self._endpoints.get(endpoint_id)

    def at_work(self, endpoint_id: str) -> OpenEndpoint | None:
        """The endpoint if this process may deliver to it, breaker aside."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None or not endpoint.active or endpoint.runner != "busbar" or endpoint.fault is not None:
            return None
        return None if self.quarantined(endpoint.kind) else endpoint

    def quarantined(self, kind: str) -> bool:
        """Whether the plugin of a connector is put aside."""
        return self._quarantined(kind)

    async def refresh(self) -> None:
        """Read the endpoints again; what changed gets a new session.

        Raises:
            Unavailable: the database cannot be reached; everything stays as it was.
        """
        async with self._refreshing:
            rows = {row["endpoint_id"]: row for row in await fetch(_READ)}
            retired = [self._endpoints.pop(endpoint_id) for endpoint_id in self._endpoints.keys() - rows.keys()]
            news = False
            for endpoint_id, row in rows.items():
                news |= self._lane(endpoint_id).breaker.learn(row["breaker"], version=row["version"])
                known = self._endpoints.get(endpoint_id)
                if known is not None and known.version == row["version"]:
                    continue
                news = True
                if known is not None:
                    retired.append(known)
                self._endpoints[endpoint_id] = OpenEndpoint(
                    row,
                    connector=self.connectors.get(row["connector"]),
                    key_ring=self.key_ring,
                    gate=self.gate,
                    clock=self.clock,
                )
        for endpoint in retired:
            await endpoint.retire()
        if news:
            # The worker of this process asked before the copy was new, and would only look again at its next poll.
            poke(Channel.DELIVERIES)

    async def close(self) -> None:
        """Close every session, in use or not."""
        for endpoint in self._endpoints.values():
            await endpoint.retire(at_once=True)
        self._endpoints.clear()

    def _lane(self, endpoint_id: str) -> EndpointLane:
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            breaker = SharedBreaker(endpoint_id, clock=self.clock, policy=self._policy)
            lane = self._lanes[endpoint_id] = EndpointLane(endpoint_id, desk=self, breaker=breaker)
        return lane


async def breaker_readings() -> Iterable[Reading]:
    """The state of every active endpoint's breaker, for the metrics."""
    return [
        Reading(
            family=BREAKER_STATE.name,
            value=_PHASE_VALUES[decode_breaker(row["breaker"]).phase],
            labels={"endpoint": row["endpoint_id"]},
        )
        for row in await fetch(_BREAKERS)
    ]
