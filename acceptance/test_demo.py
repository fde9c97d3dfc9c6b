"""`busbar seed --demo` shows every state of everything, and shows it once."""

import pytest

from acceptance.processes import Installation, installation

STATES = {
    "select status from core.ticket": {"Open", "Assigned", "In_Progress", "Closed", "Cancelled"},
    "select ticket_type from core.ticket": {"Incident", "Maintenance", "Procurement", "Finance_Approval"},
    "select status from pm.maintenance_order": {"planned", "completed", "cancelled"},
    "select trigger ->> 'kind' from pm.maintenance_plan": {"calendar", "meter", "condition", "incident"},
    "select transaction_type from mm.stock_transaction": {"receipt", "issue", "adjustment", "transfer"},
    "select status from mm.purchase_requisition": {
        *("requested", "approved", "rejected", "ordered", "received", "cancelled"),
    },
    "select status from mm.stock_count": {"open", "posted"},
    "select status from fi.approval_request": {"pending", "approved", "rejected", "withdrawn"},
    "select status from fi.commitment": {"open", "closed"},
    "select over_budget from fi.cost_center": {"off", "warn", "stop"},
    "select cost_type from fi.cost_entry": {"OPEX", "CAPEX"},
    "select unnest(roles) from core.user_account": {
        *("Admin", "Maintenance_Engineer", "Store_Manager", "Finance_Officer", "Finance_Approver"),
        "Integration_Operator",
    },
}


async def seed(installed: Installation) -> None:
    busbar = await installed.launch("seed", "--demo")
    assert await busbar.ended() == 0, busbar.log.read_text()[-3000:]


@pytest.mark.slow
class TestTheDemoData:
    async def test_has_every_state_of_everything_and_a_second_run_adds_nothing(self) -> None:
        async with installation() as installed:
            await seed(installed)
            for question, expected in STATES.items():
                found = {row[0] for row in await installed.query(f"select distinct one.* from ({question}) one")}
                assert found == expected, question
            dead = await installed.query("select subscription, last_error from core.delivery where state = 'dead'")
            assert dead == []
            before = await installed.query("select max(seq) as events from core.event")
            await seed(installed)
            assert await installed.query("select max(seq) as events from core.event") == before
