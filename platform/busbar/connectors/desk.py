"""The endpoints of this process: read from the database, each with its lane, its breaker and its HTTP session."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from busbar.bus.worker import Lane
from busbar.connectors.breaker import BreakerPolicy
from busbar.connectors.contract import Connector
from busbar.connectors.egress import Gate, read_allow_list
from busbar.connectors.handover import (
    CAMEL,
    HANDED_OVER,
    HANDED_OVER_AGE,
    Handover,
    HandoverLane,
    Publisher,
    handover_fault,
    handover_readings,
)
from busbar.connectors.lane import EndpointLane
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.references import References
from busbar.connectors.secrets import KeyRing
from busbar.connectors.shared_breaker import POLICY, SharedBreaker, decode_breaker
from busbar.connectors.verdict import Judge
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
        brokered: bool = False,
    ) -> None:
        """`connectors` by kind; `egress` are the lines of the operator's allow-list; `brokered` when there is a broker.

        Raises:
            BadAllowEntry: a line of the allow-list cannot be read.
        """
        self.connectors = dict(connectors)
        self.key_ring = key_ring
        self.gate = Gate(allow=read_allow_list(egress), allow_loopback=allow_loopback)
        self.references = References()
        self.clock = clock
        self.brokered = brokered
        self.handover = Handover()
        self._quarantined = quarantined
        self._policy = policy
        self._endpoints: dict[str, OpenEndpoint] = {}
        self._lanes: dict[str, EndpointLane] = {}
        self._handover_lanes: dict[str, HandoverLane] = {}
        self._refreshing = asyncio.Lock()
        register_collector("connectors", breaker_readings, families=(BREAKER_STATE,))
        register_collector("handover", handover_readings, families=(HANDED_OVER, HANDED_OVER_AGE))

    def hand_over_through(self, publisher: Publisher) -> None:
        """From now on deliveries to endpoints whose runner is Camel go out by this way."""
        self.handover.publisher = publisher

    def ids(self) -> list[str]:
        """The ids of all endpoints."""
        return sorted(self._endpoints)

    def lane(self, endpoint_id: str) -> Lane:
        """Where the deliveries to an endpoint are worked on; that of an unknown endpoint takes nothing."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is not None and endpoint.runner == CAMEL:
            return self._handover_lane(endpoint_id)
        return self._lane(endpoint_id)

    def judge(self, endpoint_id: str) -> Judge:
        """Who decides what an outcome means that another runner tells."""
        return self._handover_lane(endpoint_id).judge

    def get(self, endpoint_id: str) -> OpenEndpoint | None:
        """The endpoint as this process knows it, whatever its state; see `fault` and `active`."""
        return self._endpoints.get(endpoint_id)

    def at_work(self, endpoint_id: str, *, runner: str = "busbar") -> OpenEndpoint | None:
        """The endpoint if this process may work for it so that this runner delivers, breaker aside."""
        endpoint = self.listening(endpoint_id)
        if endpoint is None or endpoint.runner != runner or self.fault_of(endpoint) is not None:
            return None
        return endpoint

    def listening(self, endpoint_id: str) -> OpenEndpoint | None:
        """The endpoint if this process may ask its remote what is new, whoever delivers to it."""
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None or not endpoint.active or endpoint.fault is not None:
            return None
        return None if self.quarantined(endpoint.kind) else endpoint

    def fault_of(self, endpoint: OpenEndpoint) -> str | None:
        """Why nothing can be delivered to an endpoint, and what to do; None when it can."""
        if endpoint.fault is not None or endpoint.runner != CAMEL or endpoint.connector is None:
            return endpoint.fault
        return handover_fault(endpoint.connector, brokered=self.brokered)

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
        if any(endpoint.runner == CAMEL for endpoint in self._endpoints.values()):
            await self.handover.refresh()
        if news:
            # The worker of this process asked before the copy was new, and would only look again at its next poll.
            poke(Channel.DELIVERIES)

    async def close(self) -> None:
        """Close every session, in use or not."""
        for endpoint in self._endpoints.values():
            await endpoint.retire(at_once=True)
        self._endpoints.clear()

    def _handover_lane(self, endpoint_id: str) -> HandoverLane:
        lane = self._handover_lanes.get(endpoint_id)
        if lane is None:
            breaker = self._lane(endpoint_id).breaker
            lane = HandoverLane(endpoint_id, desk=self, breaker=breaker, handover=self.handover)
            self._handover_lanes[endpoint_id] = lane
        return lane

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
