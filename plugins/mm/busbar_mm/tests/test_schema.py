"""The migrations make what the tables say."""

import re

from busbar.sdk import Context
from busbar.testing.plugins import drift_of
from busbar_mm.tests.conftest import MM


class TestTheMigratedSchema:
    async def test_is_the_one_that_the_tables_define_with_references_added(self, ctx: Context) -> None:
        # The references lead to the core's tables, too, which a plugin has no classes of; so SQL makes them.
        reference = re.compile(r"not in the tables: (\w+) f FOREIGN KEY \((\w+)\) REFERENCES ([\w.]+)\(\w+\)")
        found = [reference.fullmatch(line) or line for line in await drift_of(MM)]
        assert sorted(match.groups() if isinstance(match, re.Match) else (match,) for match in found) == [
            ("purchase_requisition", "material_id", "mm.material"),
            ("purchase_requisition", "ticket_id", "core.ticket"),
            ("reservation", "material_id", "mm.material"),
            ("reservation", "ticket_id", "core.ticket"),
            ("stock", "material_id", "mm.material"),
            ("stock_count_line", "count_id", "mm.stock_count"),
            ("stock_count_line", "material_id", "mm.material"),
            ("stock_transaction", "material_id", "mm.material"),
        ]
