"""The remote system is down, then back: nothing lost, nothing dead, everything in order."""

import asyncio
import itertools
import os

import pytest

from acceptance.api import Api
from acceptance.processes import installation
from acceptance.world import World, incident, world

DOWN_S = float(os.environ.get("BUSBAR_OUTAGE_S", "300"))
"""The full length is five minutes; a shorter one is for trying things out."""
PAUSE_S = 0.25
BREAKER_S_MAX = 300
"""The longest pause between two probes: the last one may have failed just before the remote came back."""


async def order_at_remote(around: World, ticket_id: str) -> list[str]:
    answer = await around.remote.ask("GET", f"effects?correlation_id={ticket_id}")
    return [effect["fields"].get("state", "") for effect in answer["effects"]]


@pytest.mark.slow
class TestOutage:
    @pytest.mark.timeout(900)
    async def test_an_outage_of_five_minutes_under_load_pauses_the_endpoint_and_loses_nothing(self) -> None:
        acknowledged: list[str] = []
        walked: list[str] = []
        async with installation() as installed, world(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                await around.furnish(api)

                async def load() -> None:
                    for n in itertools.count():
                        reported = await api.post("/api/v1/pm/incidents", incident(n))
                        acknowledged.append(reported["ticket_id"])
                        if n % 10 == 0:
                            for status in ("Assigned", "In_Progress", "Closed"):
                                path = f"/api/v1/tickets/{reported['ticket_id']}/status"
                                await api.patch(path, {"new_status": status})
                            walked.append(reported["ticket_id"])
                        await asyncio.sleep(PAUSE_S)

                loading = asyncio.create_task(load())
                await asyncio.sleep(2)
                await around.remote.ask("POST", "misbehave", {"kind": "down"})
                await asyncio.sleep(DOWN_S)
                endpoint = await api.get("/api/v1/endpoints/service-desk")
                assert endpoint["breaker"]["phase"] in ("open", "half_open")
                summary = await api.get("/api/v1/deliveries/summary")
                assert summary["parked"] == 0, "an outage must not fill the dead letters"
                assert summary["open"] > 0
                await around.remote.ask("DELETE", "misbehave")
                loading.cancel()
                await asyncio.wait([loading])
                await api.drained(within_s=BREAKER_S_MAX + 60)
                summary = await api.get("/api/v1/deliveries/summary")
                assert summary["parked"] == 0
            await around.check_each_once(acknowledged)
            for ticket_id in walked:
                states = await order_at_remote(around, ticket_id)
                assert states == sorted(states), f"{ticket_id} went backwards at the remote: {states}"
                (record,) = await around.records(ticket_id)
                assert record["state"] == "6"
