"""Who may call what: the live route table, walked (SPEC R7.2, R7.3; property 12)."""

from collections.abc import Iterable

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.testing.app import PASSWORD, Client, RunningApp
from busbar.tests.route_table import Operation, operations, status_of

OPEN = {
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /.well-known/jwks.json",
    "GET /openapi",
    "GET /openapi/openapi.json",
    "GET /openapi/swagger",
    "GET /openapi/oauth2-redirect.html",
    "GET /openapi/{path}",
}
"""All that takes no token. A line more is a decision about security."""
SIGNED = {"POST /api/v1/inbound/{endpoint_id}"}
"""All that verifies a sender's signature instead."""
ANY_TOKEN = {
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/password",
    "GET /api/v1/auth/me",
    "GET /api/v1/events/asyncapi",
    "POST /api/v1/imports",
}
"""All that takes any valid token; importing asks for the importer's own permission inside."""
ROLES = (
    "Admin",
    "Finance_Approver",
    "Finance_Officer",
    "Integration_Operator",
    "Maintenance_Engineer",
    "Nobody",
    "Store_Manager",
)


def _named(found: Iterable[Operation], access: str) -> set[str]:
    return {str(each) for each in found if each.access == access}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def permissions(app: RunningApp) -> dict[str, frozenset[str]]:
    """What each role may do; `Nobody` is a user without a role."""
    admin = await app.client()
    new = {"username": "nobody", "display_name": "Nobody", "password": PASSWORD, "roles": [], "sites": ["a"]}
    await admin.post("/users", new)
    roles = (await admin.get("/roles"))["items"]
    return {"Nobody": frozenset(), **{role["role"]: frozenset(role["permissions"]) for role in roles}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sampled(app: RunningApp, permissions: dict[str, frozenset[str]]) -> Client:
    """Somebody whose role's permissions the test chooses."""
    await (await app.client()).post("/roles", {"role": "Sampled", "title": "Sampled", "permissions": []})
    return await app.client("Sampled", "a")


async def signed_in(app: RunningApp, role: str) -> Client:
    return await (app.sign_in("nobody") if role == "Nobody" else app.client(role, "a"))


class TestRouteTable:
    async def test_every_operation_declares_who_may_call_it(self, app: RunningApp) -> None:
        assert [str(each) for each in operations(app) if each.access is None] == []

    async def test_open_to_anyone_is_exactly_what_the_specification_lists(self, app: RunningApp) -> None:
        assert _named(operations(app), "*anyone") == OPEN

    async def test_signed_by_the_sender_are_exactly_the_webhooks(self, app: RunningApp) -> None:
        assert _named(operations(app), "*signed") == SIGNED

    async def test_any_token_opens_exactly_what_concerns_everybody(self, app: RunningApp) -> None:
        assert _named(operations(app), "*authenticated") == ANY_TOKEN

    async def test_every_permission_that_is_asked_for_is_declared(self, app: RunningApp) -> None:
        declared = {each["name"] for each in (await (await app.client()).get("/permissions"))["items"]}
        asked = {each.access for each in operations(app) if each.access and not each.access.startswith("*")}
        assert asked <= declared

    async def test_every_permission_is_asked_for_somewhere(self, app: RunningApp) -> None:
        declared = {each["name"] for each in (await (await app.client()).get("/permissions"))["items"]}
        asked = {each.access for each in operations(app)}
        of_importers = {each.permission for plugin in app.platform.catalog.working for each in plugin.importers}
        assert declared - asked - of_importers == set()

    async def test_the_document_lists_every_operation_of_the_api(self, app: RunningApp) -> None:
        document = await app.anonymous.get("//openapi/openapi.json")
        documented = {f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each}
        served = {str(each) for each in operations(app) if not each.template.startswith("/openapi")}
        assert documented == served

    async def test_the_document_says_which_operations_take_no_token(self, app: RunningApp) -> None:
        document = await app.anonymous.get("//openapi/openapi.json")
        without = {
            f"{method.upper()} {path}"
            for path, each in document["paths"].items()
            for method, operation in each.items()
            if operation.get("security", document["security"]) == [{}]
        }
        assert without == {name for name in OPEN | SIGNED if "/openapi" not in name}


class TestEveryOperation:
    """Property 12: for every role and every operation, allowed, 403 or 401, as declared."""

    async def test_answers_401_without_a_token(self, app: RunningApp) -> None:
        for operation in operations(app):
            status, content = await status_of(app.anonymous, operation)
            if str(operation) in OPEN | SIGNED:
                assert status < 500, f"{operation}: {status} {content!r}"
                assert (status, b"AUTH_001" in content) != (401, True), f"{operation} asks for a token"
            else:
                assert (status, b"AUTH_001" in content) == (401, True), f"{operation}: {status} {content!r}"

    async def test_answers_401_to_a_token_of_nobody(self, app: RunningApp) -> None:
        admin = await app.client()
        stranger = Client(admin._session, app.url, token=f"{admin.token}x")
        for operation in operations(app):
            if str(operation) not in OPEN | SIGNED:
                status, content = await status_of(stranger, operation)
                assert (status, b"AUTH_002" in content) == (401, True), f"{operation}: {status} {content!r}"

    @pytest.mark.parametrize("role", ROLES)
    async def test_is_allowed_or_403_by_the_permissions_of_the_role(
        self, app: RunningApp, permissions: dict[str, frozenset[str]], role: str
    ) -> None:
        client = await signed_in(app, role)
        for operation in operations(app):
            if str(operation) in OPEN | SIGNED:
                continue
            # Signing out ends the session, so it gets one of its own.
            caller = await app.sign_in("admin") if operation.template.endswith("/logout") else client
            await check(caller, operation, permissions[role])

    async def test_of_all_roles_was_checked(self, permissions: dict[str, frozenset[str]]) -> None:
        assert set(permissions) == set(ROLES), "a new role belongs into ROLES"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    async def test_follows_any_set_of_permissions(self, app: RunningApp, sampled: Client, data: st.DataObject) -> None:
        known = [each.name for each in app.platform.auth.registry.permissions]
        table = [each for each in operations(app) if each.access and not each.access.startswith("*")]
        chosen = data.draw(st.sets(st.sampled_from(known)))
        await (await app.client()).patch("/roles/Sampled", {"permissions": sorted(chosen)})
        for operation in data.draw(st.lists(st.sampled_from(table), min_size=3, max_size=8)):
            await check(sampled, operation, frozenset(chosen))


async def check(client: Client, operation: Operation, held: frozenset[str]) -> None:
    """Whether the answer is what these permissions lead to."""
    status, content = await status_of(client, operation)
    may = operation.access in held or "*" in held or operation.access == "*authenticated"
    if may:
        # With nothing in the body and nothing at the address it is refused for other reasons, and never as a fault.
        assert status not in (401, 403), f"{operation}: {status} {content!r}"
        assert status < 500, f"{operation}: {status} {content!r}"
    else:
        assert (status, b"AUTH_003" in content) == (403, True), f"{operation}: {status} {content!r}"
