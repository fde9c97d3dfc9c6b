"""The history of a material over HTTP: complete, in order, and adding up (SPEC R3.5)."""

from datetime import datetime
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.testing.app import Client
from busbar_mm.tests.work import add, events_of, ledger, post, quantity

CHANGES = st.decimals(min_value=-50, max_value=50, places=3)
KINDS = ("receipt", "issue", "adjustment")


class TestTheHistory:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        start=st.decimals(min_value=0, max_value=50, places=3),
        asked=st.lists(st.tuples(CHANGES, st.sampled_from(KINDS)), max_size=15),
    )
    async def test_has_every_change_in_order_and_adds_up_to_the_quantity(
        self, store: Client, start: Decimal, asked: list[tuple[Decimal, str]]
    ) -> None:
        """Property 7."""
        material_id = await add(store, quantity=str(start))
        expected = [("receipt", start)] if start else []
        for change, kind in asked:
            answer = await post(store, material_id, change, kind)
            sign = {"receipt": change > 0, "issue": change < 0, "adjustment": change != 0}[kind]
            left = sum((each for _, each in expected), Decimal(0)) + change
            assert answer.status == (400 if not sign else 422 if left < 0 else 201), (change, kind, answer)
            if answer.status == 201:
                expected.append((kind, change))
        lines = await ledger(store, material_id)
        assert [(line["transaction_type"], Decimal(line["quantity_change"])) for line in lines] == expected
        total = Decimal(0)
        for line in lines:
            total += Decimal(line["quantity_change"])
            assert Decimal(line["new_quantity"]) == total
        assert await quantity(store, material_id) == total
        moments = [datetime.fromisoformat(line["posted_at"]) for line in lines]
        assert moments == sorted(moments)
        assert {line["posted_by"] for line in lines} <= {"store_manager-a"}
        told = await events_of(material_id, "MM_STOCK_CHANGED")
        assert [each["transaction_id"] for each in told] == [line["transaction_id"] for line in lines]
