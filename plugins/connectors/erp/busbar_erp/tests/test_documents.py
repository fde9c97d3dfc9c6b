"""The mapping table: one short id for each thing, the same for everybody, at once and after a crash."""

import asyncio
from datetime import UTC, datetime

import pytest

from busbar.sdk import execute, fetchval
from busbar.testing.plugins import drift_of
from busbar_erp import documents
from busbar_erp.tests.conftest import ENDPOINT, ERP, Office
from busbar_erp.tests.golden import changed, requisition_approved, stock_changed

NOW = datetime(2026, 11, 28, tzinfo=UTC)


async def reserve(
    subject: str, *, endpoint_id: str = ENDPOINT, kind: documents.Kind = "movement"
) -> documents.Document:
    return await documents.reserve(endpoint_id, kind, subject, ticket_id=None, prefix="BB", now=NOW)


class TestSchema:
    async def test_the_migration_makes_the_table_that_the_code_has(self, database: str) -> None:
        assert await drift_of(ERP) == []


class TestShortId:
    async def test_is_the_same_whenever_it_is_asked_for(self, database: str) -> None:
        first = await reserve("T-1")
        assert (await reserve("T-1")) == first
        assert first.short_id == documents.short_id_of(ENDPOINT, "movement", "T-1", prefix="BB")

    async def test_differs_by_endpoint_kind_and_subject(self, database: str) -> None:
        made = [
            await reserve("T-1"),
            await reserve("T-2"),
            await reserve("T-1", kind="reversal"),
            await reserve("T-1", endpoint_id="sap-2"),
        ]
        assert len({one.short_id for one in made}) == 4

    async def test_fits_every_field_that_carries_it(self) -> None:
        short_id = documents.short_id_of(ENDPOINT, "movement", "x" * 300, prefix="BB")
        assert (len(short_id), short_id[:2], short_id.isalnum(), short_id.upper()) == (16, "BB", True, short_id)

    async def test_two_subjects_with_equal_ids_get_different_ones(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def clashing(endpoint_id: str, kind: str, subject: str, *, prefix: str, salt: int = 0) -> str:
            return f"BB{salt:014d}"

        monkeypatch.setattr(documents, "short_id_of", clashing)
        assert [(await reserve(name)).short_id[-1] for name in ("T-1", "T-2", "T-3", "T-1")] == ["0", "1", "2", "0"]


class TestConcurrency:
    async def test_fifty_at_once_get_one_id_for_one_subject(self, database: str) -> None:
        made = await asyncio.gather(*(reserve("T-1") for _ in range(50)))
        assert len({one.id for one in made}) == 1
        assert await fetchval("select count(*) from erp.document") == 1

    async def test_fifty_at_once_get_fifty_ids_for_fifty_subjects(self, database: str) -> None:
        made = await asyncio.gather(*(reserve(f"T-{n}") for n in range(50)))
        assert len({one.short_id for one in made}) == 50

    async def test_deliveries_at_the_same_time_make_one_document_each(self, office: Office) -> None:
        events = [changed(stock_changed("receipt", "1"), transaction_id=f"T-{n}") for n in range(8)]
        receipts = await asyncio.gather(*(office.deliver(event) for event in events))
        assert len({receipt.remote_id for receipt in receipts}) == 8
        assert len(office.simulator.rows("A_MaterialDocumentHeader")) == 8


class TestAfterAKill:
    async def test_a_document_is_found_by_the_id_that_was_reserved_before_it_was_sent(self, office: Office) -> None:
        # As if the process had been killed between the answer and its note of it.
        await office.deliver(requisition_approved())
        await execute("update erp.document set remote_id = null, state = '', intended_state = ''")
        receipt = await office.deliver(requisition_approved(), number=2)
        assert receipt.duplicate
        assert await fetchval("select remote_id from erp.document") == receipt.remote_id
