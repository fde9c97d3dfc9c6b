"""Tables leave out what Piccolo would do differently from what it says (LESSONS D17)."""

import pytest
from piccolo.columns import ForeignKey
from piccolo.table import Table

from busbar.host.loader import installed, load
from busbar.schema.core import CORE

APPS = [CORE, *(plugin.schema for plugin in load(installed()) if plugin.schema is not None)]
TABLES = [pytest.param(table, id=f"{app.name}.{table._meta.tablename}") for app in APPS for table in app.tables]


@pytest.mark.parametrize("table", TABLES)
class TestATable:
    def test_is_in_the_schema_of_its_module(self, table: type[Table]) -> None:
        assert table._meta.schema in {app.name for app in APPS if table in app.tables}

    def test_leaves_indexes_references_and_choices_to_sql(self, table: type[Table]) -> None:
        # Piccolo drops no index outside of `public`, lets references cascade and be null, and enforces no choices.
        columns = table._meta.columns
        assert [column._meta.name for column in columns if column._meta.index or column._meta.choices] == []
        assert [column._meta.name for column in columns if isinstance(column, ForeignKey)] == []

    def test_has_a_default_only_where_one_is_meant(self, table: type[Table]) -> None:
        # A required text would be born empty instead of being refused.
        named = {
            "ticket.description",
            "asset.location",
            "measurement.unit",
            "storage_location.title",
            "stock_count.description",
            "stock_transaction.note",
            "purchase_requisition.justification",
            "cost_entry.description",
            "delegation.reason",
            "document.purchase_order",
            "document.purchase_order_item",
            "document.state",
            "document.intended_state",
            "document.reported_state",
            "document.reported_message",
        }
        empty = {
            f"{table._meta.tablename}.{column._meta.name}"
            for column in table._meta.columns
            if not column._meta.null and getattr(column, "default", None) == ""
        }
        assert empty <= named
