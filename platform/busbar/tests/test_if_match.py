"""Nobody's change is lost: every operation that takes If-Match refuses to act on another version (SPEC R1.5)."""

from typing import Any

from busbar.testing.app import RunningApp
from busbar.tests.another_site import fill_both_sites
from busbar.tests.route_table import Operation, operations

OF_ALL_SITES = {"PATCH /api/v1/roles/{role}", "DELETE /api/v1/roles/{role}", "PUT /api/v1/sla/targets"}
"""Not for somebody of one site; the tests of roles and of service levels hold them to it."""
WITHOUT = {
    "DELETE /api/v1/fi/delegations/{delegation_id}": "it is never changed, only revoked",
    "PUT /api/v1/pm/failure-codes": "it says all there is to say of a code, and has no version",
    "PUT /api/v1/sites/{site_id}/modules/{module}": "it sets one switch",
}
"""Operations that change something without, each with the reason."""


def takes_if_match(document: Any, operation: Operation) -> bool:
    described = document["paths"].get(operation.template, {}).get(operation.method.lower(), {})
    return any(parameter["name"].lower() == "if-match" for parameter in described.get("parameters", []))


class TestIfMatch:
    async def test_of_another_version_is_refused_by_every_operation_that_takes_it(self, app: RunningApp) -> None:
        things = await fill_both_sites(app)
        there = await app.client("Admin", "a")
        document = await app.anonymous.get("//openapi/openapi.json")
        checked = 0
        for operation in operations(app):
            if takes_if_match(document, operation) and str(operation) not in OF_ALL_SITES:
                answer = await things.call(there, operation, headers={"If-Match": '"v99"'})
                assert (answer.status, answer.body["code"]) == (412, "RES_002"), (operation, answer)
                checked += 1
        assert checked > 40

    async def test_is_taken_by_whatever_changes_or_deletes(self, app: RunningApp) -> None:
        document = await app.anonymous.get("//openapi/openapi.json")
        changing = [each for each in operations(app) if each.method in ("PATCH", "PUT", "DELETE")]
        assert {str(each) for each in changing if not takes_if_match(document, each)} == set(WITHOUT)
