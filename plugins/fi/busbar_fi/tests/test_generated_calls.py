"""No input makes a fault, and every answer is as documented: generated calls of finance's part of the API."""

import asyncio
from typing import Any

import pytest

from busbar.testing.app import Client
from busbar.tests.test_schemathesis import call_all
from busbar_fi.tests.asking import ask, delegate
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import YEAR, add_center, add_ticket

PREFIX = "/api/v1/fi/"


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestGeneratedCalls:
    async def test_never_fail_and_are_answered_as_documented(self, office: Office, olga: Client) -> None:
        anna = await office.client("anna")
        center = await add_center(olga)
        entry = {"ticket_id": await add_ticket(), "amount": "1.00", "cost_type": "OPEX", "cost_center_id": center}
        posted = [await olga.post("/fi/cost-entries", entry) for _ in range(5)]
        opened = [await ask(olga, center, "bea", "admin") for _ in range(5)]
        known = {
            "cost_center_id": [center],
            "fiscal_year": [str(YEAR)],
            "entry_id": [each["entry_id"] for each in posted],
            "approval_id": [each["approval_id"] for each in opened],
            "delegation_id": [await delegate(anna, "bea")],
        }
        document: dict[str, Any] = await office.app.anonymous.get("//openapi/openapi.json")
        own = {path: each for path, each in document["paths"].items() if path.startswith(PREFIX)}
        assert len(own) >= 15
        admin = await office.app.client()
        failures = await asyncio.to_thread(call_all, document | {"paths": own}, known, admin, "Admin")
        assert not failures, f"{len(failures)} operations:\n\n" + "\n\n".join(failures)
