"""The migrations make what the tables say."""

import re

from busbar.sdk import Context
from busbar.testing.plugins import drift_of
from busbar_pm.tests.conftest import PM


class TestTheMigratedSchema:
    async def test_is_the_one_that_the_tables_define_with_references_added(self, ctx: Context) -> None:
        # The references lead to the core's tables, too, which a plugin has no classes of; so SQL makes them.
        reference = re.compile(r"not in the tables: (\w+) f FOREIGN KEY \((\w+)\) REFERENCES ([\w.]+)\(\w+\)")
        found = [reference.fullmatch(line) or line for line in await drift_of(PM)]
        assert sorted(match.groups() if isinstance(match, re.Match) else (match,) for match in found) == [
            ("asset", "asset_type", "pm.asset_type"),
            ("asset", "parent_id", "pm.asset"),
            ("asset_history", "asset_id", "pm.asset"),
            ("incident", "asset_id", "pm.asset"),
            ("incident", "ticket_id", "core.ticket"),
            ("maintenance_call", "incident_id", "pm.incident"),
            ("maintenance_call", "order_id", "pm.maintenance_order"),
            ("maintenance_call", "plan_id", "pm.maintenance_plan"),
            ("maintenance_order", "asset_id", "pm.asset"),
            ("maintenance_order", "incident_id", "pm.incident"),
            ("maintenance_order", "plan_id", "pm.maintenance_plan"),
            ("maintenance_order", "ticket_id", "core.ticket"),
            ("maintenance_plan", "asset_id", "pm.asset"),
            ("maintenance_plan", "asset_type", "pm.asset_type"),
            ("measurement", "asset_id", "pm.asset"),
            ("order_actual", "order_id", "pm.maintenance_order"),
            ("order_checklist_item", "order_id", "pm.maintenance_order"),
            ("order_component", "order_id", "pm.maintenance_order"),
            ("order_issue", "order_id", "pm.maintenance_order"),
            ("order_planned_labour", "order_id", "pm.maintenance_order"),
            ("restoration_step", "incident_id", "pm.incident"),
        ]
