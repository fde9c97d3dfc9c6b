"""Fifty people issue the same material for a minute: stock is never negative, and always what its ledger says."""

import asyncio
import itertools
import time
from collections import Counter
from decimal import Decimal

import asyncpg
import pytest

from acceptance.api import Api
from acceptance.processes import Installation, installation
from acceptance.utility import SITE

CLIENTS = 50
SECONDS = 60
SAMPLE_S = 0.1
LEVEL = 200
REFILL = 400
"""So much comes in now and then, so that stock goes below its level and back, again and again."""
REFILL_S = 2.0

_SAMPLE = """
select m.quantity, m.quantity < 0 as negative,
    (select coalesce(sum(quantity_change), 0) from mm.stock_transaction t where t.material_id = m.material_id)
        as ledger,
    (select coalesce(sum(quantity), 0) from mm.stock s where s.material_id = m.material_id) as places,
    (select count(*) from mm.stock s where s.material_id = m.material_id and s.quantity < 0) as negative_places,
    (select count(*) from mm.purchase_requisition r where r.material_id = m.material_id and r.origin = 'reorder'
        and r.status in ('requested', 'approved', 'ordered')) as reorders
from mm.material m where m.material_id = 'FUSE'
"""


class Sampler:
    """Looks at the books again and again, each time in one snapshot."""

    def __init__(self, installed: Installation) -> None:
        self._installed = installed
        self.samples = 0
        self.lowest = Decimal("Infinity")

    async def run(self) -> None:
        connection = await asyncpg.connect(self._installed.dsn)
        try:
            while True:
                self.check(await connection.fetchrow(_SAMPLE))
                await asyncio.sleep(SAMPLE_S)
        finally:
            await connection.close()

    def check(self, books: asyncpg.Record) -> None:
        assert not books["negative"] and not books["negative_places"], dict(books)
        assert books["ledger"] == books["quantity"] == books["places"], dict(books)
        assert books["reorders"] <= 1, dict(books)
        self.samples += 1
        self.lowest = min(self.lowest, books["quantity"])


@pytest.mark.slow
class TestFiftyPeopleAtOneMaterial:
    @pytest.mark.timeout(300)
    async def test_never_get_more_than_there_is_and_cause_one_reorder_at_a_time(self) -> None:
        answers: Counter[int] = Counter()
        numbers = itertools.count(1)

        async def issue(api: Api, until_s: float) -> None:
            while time.monotonic() < until_s:
                body = {"material_id": "FUSE", "transaction_type": "issue", "quantity_change": -(next(numbers) % 7 + 1)}
                status, answer = await api.send("POST", "/api/v1/mm/stock-transactions", body)
                answers[status] += 1
                assert status == 201 or (status, answer["code"]) == (422, "BUS_002"), answer

        async def refill(api: Api, until_s: float) -> None:
            while time.monotonic() < until_s:
                await asyncio.sleep(REFILL_S)
                body = {"material_id": "FUSE", "transaction_type": "receipt", "quantity_change": REFILL}
                await api.post("/api/v1/mm/stock-transactions", body)
                # What was ordered has come: the next time that stock is low is a new reason to reorder.
                path = "/api/v1/mm/purchase-requisitions?material_id=FUSE&status=requested"
                for requisition in (await api.get(path))["items"]:
                    await api.post(f"/api/v1/tickets/{requisition['ticket_id']}/cancel", {"reason": "Has come"})

        async with installation() as installed:
            first, second = await installed.start(), await installed.start()
            async with Api(first.url) as a, Api(second.url) as b:
                await a.post("/api/v1/sites", {"site_id": SITE, "name": "Depot North", "modules": ["mm"]})
                fuse = {"material_id": "FUSE", "description": "Fuse", "unit_of_measure": "EA", "site": SITE}
                fuse |= {"quantity": 1000, "reorder_level": LEVEL, "reorder_buffer": 100, "unit_price": "25.00"}
                await a.post("/api/v1/mm/materials", fuse)
                sampler = Sampler(installed)
                sampling = asyncio.create_task(sampler.run())
                until_s = time.monotonic() + SECONDS
                work = [issue(api, until_s) for api in (a, b) for _ in range(CLIENTS // 2)]
                await asyncio.gather(*work, refill(a, until_s))
                await a.drained(within_s=60)
                assert not sampling.done(), sampling.exception()
                sampling.cancel()
                (books,) = await installed.query(_SAMPLE)
                sampler.check(books)
                material = await b.get("/api/v1/mm/materials/FUSE")
                assert Decimal(material["quantity"]) == books["quantity"]
                assert sampler.samples > SECONDS
                assert sampler.lowest < LEVEL
                assert answers[201] > CLIENTS
                reorders = await installed.query(
                    "select count(*) as n from core.ticket where ticket_type = 'Procurement'"
                )
                assert reorders[0]["n"] >= 2, "the reorder rule was not put to the test"
                (ledger,) = await installed.query(
                    "select count(*) as n, count(distinct transaction_id) as once from mm.stock_transaction"
                )
                events = await installed.query(
                    "select count(*) as n from core.event where event_type = 'MM_STOCK_CHANGED'"
                )
                assert ledger["n"] == ledger["once"] == events[0]["n"]
