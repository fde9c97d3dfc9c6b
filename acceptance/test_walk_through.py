"""The main job: a real outage from report to the service desk and back."""

import asyncio
import time

from acceptance.api import Api
from acceptance.processes import installation
from acceptance.runner import busbar_only
from acceptance.world import incident, world


class TestWalkThrough:
    async def test_an_outage_reaches_the_service_desk_and_what_happens_there_comes_back(self) -> None:
        async with installation() as installed, world(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                await around.furnish(api)
                await around.listen_to(busbar)
                reported = await api.post("/api/v1/pm/incidents", incident(3), **{"X-Correlation-ID": "walk-through-1"})
                ticket_id = reported["ticket_id"]
                began = time.monotonic()
                while not (records := await around.records(ticket_id)):
                    assert time.monotonic() - began < 2, "the service desk has no record after 2 s"
                    await asyncio.sleep(0.02)
                (record,) = records
                assert "walk-through-1" in record["correlation_display"]

                await api.patch(f"/api/v1/tickets/{ticket_id}/status", {"new_status": "Assigned"})
                await api.drained(within_s=60)
                fields = {"state": "6", "close_code": "Solution provided", "close_notes": "Fuse replaced"}
                await around.remote.ask("POST", "change", {"correlation_id": ticket_id, "fields": fields})
                async with asyncio.timeout(30):
                    while (await api.get(f"/api/v1/tickets/{ticket_id}"))["status"] != "Closed":
                        await asyncio.sleep(0.05)
                await api.drained(within_s=60)

                # Our own change came back as an event, but not to the desk that made it.
                writes = await around.remote.ask("GET", f"effects?correlation_id={ticket_id}")
                methods = [effect["method"] for effect in writes["effects"]]
                assert methods.count("POST") == 1
                assert methods[-1] == "CHANGE", f"an echo was written after the user's change: {methods}"
                trail = await api.get(f"/api/v1/tickets/{ticket_id}/audit")
                assert [entry["new_status"] for entry in trail] == ["Open", "Assigned", "In_Progress", "Closed"]
                trace = await api.get(f"/api/v1/events/trace/{ticket_id}")
                assert "walk-through-1" in str(trace)
                assert record["sys_id"] in str(trace)

    @busbar_only
    async def test_closing_the_ticket_resolves_the_record_over_tls(self) -> None:
        async with installation() as installed, world(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                await around.furnish(api, tls=True)
                ticket_id = (await api.post("/api/v1/pm/incidents", incident(1)))["ticket_id"]
                for status in ("Assigned", "In_Progress", "Closed"):
                    body = {"new_status": status, "comment": f"now {status}"}
                    await api.patch(f"/api/v1/tickets/{ticket_id}/status", body)
                await api.drained(within_s=60)
                (record,) = await around.records(ticket_id)
                assert record["state"] == "6"
                assert await around.check_each_once([ticket_id]) == 1
