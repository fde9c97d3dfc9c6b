"""No input makes a fault, and every answer is as documented: generated calls of the whole OpenAPI document, by role."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from busbar.testing.app import Client, RunningApp

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXCLUDED = {
    ("get", "/api/v1/events/stream"): "the answer has no end; busbar/events/tests/test_stream.py reads it",
    ("post", "/api/v1/auth/logout"): "it ends the session that the other calls need; the tests of identity call it",
}
"""Operations that are left out, each with the reason."""
CASES_BY_ROLE = {"Admin": 20, "Maintenance_Engineer": 8, "Integration_Operator": 8, "anonymous": 4}
"""Cases for each operation."""
CASES_MIN = 3_000
counted: Counter[tuple[str, int]] = Counter()
"""Calls, by role and status of the answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def known(app: RunningApp) -> dict[str, list[str]]:
    """Ids of things that there are, by the name of the parameter of a path, so that calls come past the 404."""
    admin = await app.client()
    asset = await admin.post("/pm/assets", {"asset_type": "feeder", "name": "Feeder", "site": "a"})
    order = {"asset_id": asset["asset_id"], "order_type": "preventive", "description": "x"}
    incident = {"asset_id": asset["asset_id"], "fault_type": "outage", "severity": "P2", "description": "x"}
    planned = await admin.post("/pm/maintenance-orders", order | {"scheduled_date": "2027-01-01"})
    reported = [await admin.post("/pm/incidents", incident) for _ in range(5)]
    tickets = [each["ticket_id"] for each in reported]
    await admin.patch(f"/tickets/{tickets[0]}/status", {"new_status": "Assigned"})
    settings_of_it = {"base_url": "http://127.0.0.1:9", "username": "busbar"}
    await admin.post(
        "/endpoints", {"endpoint_id": "remote", "connector": "itsm", "name": "Remote", "settings": settings_of_it}
    )
    await admin.post("/routes", {"route_id": "rule", "name": "Rule", "pattern": ["PM_*"], "endpoint_id": "remote"})
    await app.quiet()
    user = await admin.post("/users", {"username": "fuzzed", "display_name": "Fuzzed", "password": "a quiet relay"})
    await admin.post("/roles", {"role": "Fuzzed", "title": "Fuzzed", "permissions": ["pm.read"]})
    form = aiohttp.FormData({"importer": "pm.assets", "site": "a"})
    form.add_field("file", b"asset_type,name\nfeeder,x\n", filename="assets.csv")
    imported = await admin.send("POST", "/imports", data=form)
    storm = {"site": "a", "name": "Storm", "starts_at": datetime.now(UTC).isoformat()}
    weather = [await admin.post("/sla/weather-events", storm) for _ in range(3)]
    events = (await admin.get("/events"))["items"]
    deliveries = (await admin.get("/deliveries"))["items"]
    return {
        "asset_id": [asset["asset_id"]],
        "order_id": [planned["order_id"]],
        "incident_id": [each["incident_id"] for each in reported],
        "ticket_id": tickets,
        "endpoint_id": ["remote"],
        "route_id": ["rule"],
        "site_id": ["a"],
        # A module that is there would be switched off, and half of the operations with it.
        "module": ["nothing"],
        "user_id": [user["user_id"]],
        # Not one of those that call: it would lose its permissions on the way.
        "role": ["Fuzzed"],
        "import_id": [imported.body["import_id"]],
        "event_id": [event["id"] for event in events],
        "delivery_id": [delivery["delivery_id"] for delivery in deliveries],
        "key": [tickets[0], events[0]["correlationid"]],
        "weather_event_id": [each["weather_event_id"] for each in weather],
        "version": ["1"],
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def document(app: RunningApp) -> dict[str, Any]:
    fetched: dict[str, Any] = await app.anonymous.get("//openapi/openapi.json")
    return fetched


def without_security(document: dict[str, Any]) -> dict[str, Any]:
    """The same, but that nothing needs a token; else a wrong case would often be one that leaves the token out."""
    schemes = {name: part for name, part in document["components"].items() if name != "securitySchemes"}
    paths = {
        path: {method: {**operation, "security": []} for method, operation in each.items()}
        for path, each in document["paths"].items()
    }
    return {**document, "components": schemes, "paths": paths, "security": []}


def covered(document: dict[str, Any]) -> Iterator[APIOperation]:
    """The operations of the document but those that are excluded."""
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        if (operation.method, operation.path) not in EXCLUDED:
            yield operation


def cases(operation: APIOperation, known: dict[str, list[str]]) -> st.SearchStrategy[Case]:
    """Calls as documented, with ids that exist where there are some, and calls with something wrong."""
    names = [name for name in known if f"{{{name}}}" in operation.path]
    plain = operation.as_strategy(GenerationMode.POSITIVE)
    wrong = operation.as_strategy(GenerationMode.NEGATIVE)
    if not names:
        return plain | wrong
    chosen = st.fixed_dictionaries({name: st.sampled_from(known[name]) for name in names})
    aimed = chosen.flatmap(lambda ids: operation.as_strategy(GenerationMode.POSITIVE, path_parameters=ids))
    aimed_wrong = chosen.flatmap(lambda ids: operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=ids))
    return aimed | aimed_wrong | plain | wrong


def call_all(document: dict[str, Any], known: dict[str, list[str]], client: Client, role: str) -> list[str]:
    """Call every operation with generated cases; what failed, each with a way to repeat it. Runs in a thread."""
    failures: list[str] = []
    headers = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    base_url = client.url("//").rstrip("/")
    with requests.Session() as session:
        for operation in covered(document if role == "anonymous" else without_security(document)):

            @settings(
                max_examples=CASES_BY_ROLE[role],
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases(operation, known))
            def hold(case: Case) -> None:
                response = case.call(base_url=base_url, session=session, headers=headers, timeout=20)
                counted[role, response.status_code] += 1
                case.validate_response(response, checks=CHECKS, headers=headers)

            try:
                hold()
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all that is found is told together
                failures.append(f"{operation.method} {operation.path}\n{_causes(error)}")
    return failures


def _causes(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(_causes(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"[:1_500]


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestGeneratedCalls:
    @pytest.mark.parametrize("role", CASES_BY_ROLE)
    async def test_never_fail_and_are_answered_as_documented(
        self, app: RunningApp, document: dict[str, Any], known: dict[str, list[str]], role: str
    ) -> None:
        client = app.anonymous if role == "anonymous" else await app.client(role)
        failures = await asyncio.to_thread(call_all, document, known, client, role)
        assert not failures, f"{len(failures)} operations:\n\n" + "\n\n".join(failures)

    async def test_were_enough_and_got_past_the_door(self) -> None:
        assert counted.total() >= CASES_MIN, counted
        for role in set(CASES_BY_ROLE) - {"anonymous"}:
            done = sum(number for (whose, status), number in counted.items() if whose == role and status < 300)
            assert done > 30, (role, counted)
        assert {status for _, status in counted} >= {200, 201, 400, 401, 403, 404, 422}

    async def test_leave_out_nothing_without_a_reason(self, document: dict[str, Any]) -> None:
        every = {(method, path) for path, each in document["paths"].items() for method in each}
        assert every - {(each.method, each.path) for each in covered(document)} == set(EXCLUDED)
