"""No input makes a fault, and every answer is as documented: generated calls of the whole OpenAPI document, by role."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

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
from busbar.tests.known_things import known_things

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXCLUDED = {
    ("get", "/api/v1/events/stream"): "the answer has no end; busbar/events/tests/test_stream.py reads it",
    ("post", "/api/v1/auth/logout"): "it ends the session that the other calls need; the tests of identity call it",
}
"""Operations that are left out, each with the reason."""
CASES_BY_ROLE = {
    "Admin": 20,
    "Maintenance_Engineer": 8,
    "Store_Manager": 8,
    "Finance_Officer": 8,
    "Finance_Approver": 8,
    "Integration_Operator": 8,
    "anonymous": 4,
}
"""Cases for each operation."""
CASES_MIN = 8_000
counted: Counter[tuple[str, int]] = Counter()
"""Calls, by role and status of the answer."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def callers(app: RunningApp) -> dict[str, Client]:
    """An administrator of all sites, and one of each other role at site a.

    They sign in before generated sign-ins use up the attempts that this machine has.
    """
    others = set(CASES_BY_ROLE) - {"Admin", "anonymous"}
    people = {role: await app.client(role, "a") for role in sorted(others)}
    return people | {"Admin": await app.client(), "anonymous": app.anonymous}


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


def cases(operation: APIOperation, known: dict[str, list[Any]]) -> st.SearchStrategy[Case]:
    """Calls as documented, with ids that exist where there are some, and calls with something wrong."""
    plain = operation.as_strategy(GenerationMode.POSITIVE)
    wrong = operation.as_strategy(GenerationMode.NEGATIVE)
    chosen = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in known.items()})
    names = [name for name in known if f"{{{name}}}" in operation.path]
    if not names:
        return st.builds(aim, plain, chosen) | plain | wrong
    in_path = st.fixed_dictionaries({name: st.sampled_from(known[name]) for name in names})
    aimed = in_path.flatmap(lambda ids: operation.as_strategy(GenerationMode.POSITIVE, path_parameters=ids))
    aimed_wrong = in_path.flatmap(lambda ids: operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=ids))
    return st.builds(aim, aimed, chosen) | aimed | aimed_wrong | plain | wrong


def aim(case: Case, known: dict[str, Any]) -> Case:
    """The same call, but that what its query and its body name by id is there; not the id of what is to be made."""
    made = case.path.rsplit("/", 1)[1].removesuffix("s").replace("-", "_")
    there = {name: value for name, value in known.items() if name not in (made, f"{made}_id")}
    if isinstance(case.query, dict):
        case.query = {name: there.get(name, value) for name, value in case.query.items()}
    if isinstance(case.body, dict):
        case.body = {name: there.get(name, value) for name, value in case.body.items()}
    return case


def call_all(document: dict[str, Any], known: dict[str, list[Any]], client: Client, role: str) -> list[str]:
    """Call every operation with generated cases; what failed, each with a way to repeat it. Runs in a thread."""
    failures: list[str] = []
    headers = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    base_url = client.url("//").rstrip("/")
    with requests.Session() as session:
        operations = covered(document if role == "anonymous" else without_security(document))
        # What deletes comes last, or the others would meet nothing.
        for operation in sorted(operations, key=lambda each: each.method == "delete"):

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
        self, app: RunningApp, callers: dict[str, Client], document: dict[str, Any], role: str
    ) -> None:
        known = await known_things(app, role)
        failures = await asyncio.to_thread(call_all, document, known, callers[role], role)
        assert not failures, f"{len(failures)} operations:\n\n" + "\n\n".join(failures)

    async def test_were_enough_and_got_past_the_door(self) -> None:
        assert counted.total() >= CASES_MIN, counted
        for role in set(CASES_BY_ROLE) - {"anonymous"}:
            done = sum(number for (whose, status), number in counted.items() if whose == role and status < 300)
            assert done > 60, (role, counted)
        assert {status for _, status in counted} >= {200, 201, 400, 401, 403, 404, 422}

    async def test_came_from_every_role(self, app: RunningApp) -> None:
        declared = {role.role for role in app.platform.auth.registry.roles}
        assert set(CASES_BY_ROLE) == declared | {"anonymous"}, "a new role belongs into CASES_BY_ROLE"

    async def test_know_a_thing_for_every_parameter(self, app: RunningApp, document: dict[str, Any]) -> None:
        named = {name for path in document["paths"] for name in re.findall(r"\{(\w+)\}", path)}
        assert named - set(await known_things(app, "last")) == set()

    async def test_leave_out_nothing_without_a_reason(self, document: dict[str, Any]) -> None:
        every = {(method, path) for path, each in document["paths"].items() for method in each}
        assert every - {(each.method, each.path) for each in covered(document)} == set(EXCLUDED)
