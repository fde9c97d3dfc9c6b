"""Reports that share a statement stand and fall alone."""

import asyncio
from typing import Any

import pytest

from busbar.sdk import Context, fetch, fetchval
from busbar_pm.assets import AssetFields, create
from busbar_pm.incidents import NewIncident, report


def incident(**fields: Any) -> NewIncident:
    given = {"asset_id": "A1", "fault_type": "fault", "severity": "P3", "description": "Something"}
    return NewIncident(**(given | fields))


class TestABatchWithABadReport:
    @pytest.mark.parametrize(
        "bad",
        [
            {"description": "a NUL \x00 in the text"},
            {"customers_affected": -1},
            {"customers_affected": 2**31},
            {"description": "half a surrogate \ud800"},
            {"asset_id": "NOBODY"},
            {"source_ref": "there already"},
        ],
        ids=["NUL", "negative", "beyond an integer", "not text", "unknown asset", "taken"],
    )
    async def test_writes_all_the_others_without_a_gap(self, ctx: Context, bad: dict[str, Any]) -> None:
        await create(ctx, asset_id="A1", site_id="north", fields=AssetFields(asset_type="feeder", name="Feeder"))
        await report(ctx, incident(source_ref="there already"))
        asked = [incident(description=f"number {n}") for n in range(30)]
        asked[17] = incident(**bad)
        outcomes = await asyncio.gather(*(report(ctx, each) for each in asked), return_exceptions=True)
        failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
        assert failed == [17], outcomes
        assert await fetchval("select count(*) from pm.incident") == 30
        tickets = [row["ticket_id"] for row in await fetch("select ticket_id from core.ticket order by ticket_id")]
        assert [int(ticket_id[-4:]) for ticket_id in tickets] == list(range(1, 31))
        assert await fetchval("select count(*) from core.event where event_type = 'PM_TICKET_CREATED'") == 30
        assert await fetchval("select count(*) from core.audit where action = 'ticket.open'") == 30
