"""Identity over HTTP: signing in and out, users, roles, permissions, keys."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from litestar import Litestar
from litestar.openapi.config import OpenAPIConfig

from busbar.auth.first_start import ensure_admin
from busbar.auth.guards import auth_dependencies
from busbar.auth.keys import SigningKeys
from busbar.auth.routes import ROOT_ROUTES, ROUTES
from busbar.auth.service import Auth
from busbar.auth.tests.support import PASSWORD, ManualClock, running
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.web.access import ANYONE, declared, declared_access
from busbar.web.openapi import ProblemDocumentation, StructSchemas

NEW_USER = {
    "username": "Maria",
    "display_name": "Maria Weber",
    "password": PASSWORD,
    "email": "maria@utility.example",
    "roles": ["Engineer"],
    "sites": ["north"],
}


class Caller:
    """Somebody who is signed in."""

    def __init__(self, client: httpx.AsyncClient, tokens: dict[str, Any]) -> None:
        self.client = client
        self.tokens = tokens

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        headers["Authorization"] = f"Bearer {self.tokens['access_token']}"
        return await self.client.request(method, path, json=body, headers=headers)


@pytest.fixture
async def client(auth: Auth) -> AsyncIterator[httpx.AsyncClient]:
    await ensure_admin(auth, password=PASSWORD)
    await execute("insert into core.site (site_id, name) values ('north', 'North'), ('south', 'South')")
    async with running(auth, *ROUTES, *ROOT_ROUTES) as opened:
        yield opened


async def sign_in(client: httpx.AsyncClient, username: str = "admin", password: str = PASSWORD) -> Caller:
    answer = await client.post("/auth/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return Caller(client, answer.json())


@pytest.fixture
async def admin(client: httpx.AsyncClient) -> Caller:
    return await sign_in(client)


@pytest.fixture
async def maria(admin: Caller) -> dict[str, Any]:
    answer = await admin("POST", "/users", NEW_USER)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestDeclarations:
    def test_only_login_refresh_and_the_keys_are_open(self) -> None:
        access = {next(iter(handler.paths)): declared_access(handler) for handler in (*ROUTES, *ROOT_ROUTES)}
        assert None not in access.values()
        open_paths = {path for path, value in access.items() if value == declared(ANYONE)}
        assert open_paths == {"/auth/login", "/auth/refresh", "/.well-known/jwks.json"}

    async def test_the_document_says_which_take_no_token(self, auth: Auth) -> None:
        app = Litestar(
            [*ROUTES, *ROOT_ROUTES],
            dependencies=auth_dependencies(auth),
            plugins=[StructSchemas(), ProblemDocumentation()],
            openapi_config=OpenAPIConfig(title="Busbar", version="0", security=[{"bearer": []}], create_examples=False),
        )
        paths = app.openapi_schema.to_schema()["paths"]
        open_paths = {path for path, item in paths.items() for each in item.values() if each.get("security") == [{}]}
        assert open_paths == {"/auth/login", "/auth/refresh", "/.well-known/jwks.json"}


class TestSigningIn:
    async def test_login_answers_with_a_pair_that_no_cache_keeps(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/auth/login", json={"username": "admin", "password": PASSWORD})
        assert answer.headers["Cache-Control"] == "no-store"
        body = answer.json()
        assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)

    async def test_wrong_and_unknown_get_the_same_body(self, client: httpx.AsyncClient) -> None:
        bodies = []
        for username in ("admin", "nobody"):
            answer = await client.post("/auth/login", json={"username": username, "password": "wrong"})
            assert code(answer) == (401, "AUTH_002")
            bodies.append({**answer.json(), "correlation_id": ""})
        assert bodies[0] == bodies[1]

    async def test_the_source_is_limited_with_retry_after(self, client: httpx.AsyncClient) -> None:
        for number in range(30):
            await execute(
                "insert into core.login_failure (at, username, source) values ($1, $2, '192.0.2.9')",
                ManualClock()(),
                f"user{number}",
            )
        answer = await client.post("/auth/login", json={"username": "admin", "password": PASSWORD})
        assert code(answer) == (429, "SYS_002") and int(answer.headers["Retry-After"]) > 0

    @pytest.mark.parametrize("body", [{}, {"username": "a"}, {"username": 1, "password": []}, {"password": "\u0000"}])
    async def test_a_malformed_body_is_a_400(self, client: httpx.AsyncClient, body: Any) -> None:
        answer = await client.post("/auth/login", json=body)
        assert answer.status_code == 400 and answer.json()["errors"]

    async def test_an_idempotency_key_neither_hides_a_failure_nor_stores_a_token(
        self, client: httpx.AsyncClient
    ) -> None:
        keyed = {"Idempotency-Key": "one"}
        await client.post("/auth/login", json={"username": "admin", "password": "wrong"}, headers=keyed)
        assert await fetchval("select count(*) from core.login_failure") == 1
        first = await client.post("/auth/login", json={"username": "admin", "password": PASSWORD}, headers=keyed)
        second = await client.post("/auth/login", json={"username": "admin", "password": PASSWORD}, headers=keyed)
        assert first.json()["refresh_token"] != second.json()["refresh_token"]
        assert await fetchval("select count(*) from core.idempotency") == 0

    async def test_refresh_replaces_the_pair_and_reuse_ends_the_session(
        self, client: httpx.AsyncClient, admin: Caller, clock: ManualClock
    ) -> None:
        old = {"refresh_token": admin.tokens["refresh_token"]}
        renewed = Caller(client, (await client.post("/auth/refresh", json=old)).json())
        assert (await renewed("GET", "/auth/me")).status_code == 200
        clock.advance(seconds=11)
        assert code(await client.post("/auth/refresh", json=old)) == (401, "AUTH_002")
        assert code(await renewed("GET", "/auth/me")) == (401, "AUTH_002")

    async def test_logout_ends_the_session_and_no_other(self, client: httpx.AsyncClient, admin: Caller) -> None:
        other = await sign_in(client)
        assert (await admin("POST", "/auth/logout")).status_code == 204
        assert code(await admin("GET", "/auth/me")) == (401, "AUTH_002")
        assert (await other("GET", "/auth/me")).status_code == 200

    async def test_me_tells_what_i_may_do(self, client: httpx.AsyncClient, maria: dict[str, Any]) -> None:
        me = (await (await sign_in(client, "maria"))("GET", "/auth/me")).json()
        assert (me["username"], me["display_name"], me["sites"]) == ("maria", "Maria Weber", ["north"])
        assert me["permissions"] == ["pm.read", "pm.write"]
        assert me["expires_at"] == "2026-11-23T08:10:00Z"

    async def test_the_published_keys_verify_a_token(self, client: httpx.AsyncClient, admin: Caller) -> None:
        key_set = jwt.PyJWKSet.from_dict((await client.get("/.well-known/jwks.json")).json())
        token = admin.tokens["access_token"]
        key = key_set[jwt.get_unverified_header(token)["kid"]]
        options = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, key.key, algorithms=["EdDSA"], audience="busbar-api", options=options)
        assert claims["username"] == "admin" and claims["roles"] == ["Admin"]

    async def test_a_key_that_another_process_made_is_published(
        self, client: httpx.AsyncClient, auth: Auth, clock: ManualClock
    ) -> None:
        clock.advance(seconds=1)
        kid = await SigningKeys(auth.keys._box).rotate(now=clock(), verify_s=600)
        published = (await client.get("/.well-known/jwks.json")).json()
        assert kid in [key["kid"] for key in published["keys"]]

    async def test_a_key_that_another_process_made_signs_the_next_token(
        self, client: httpx.AsyncClient, auth: Auth, clock: ManualClock
    ) -> None:
        clock.advance(seconds=1)
        kid = await SigningKeys(auth.keys._box).rotate(now=clock(), verify_s=600)
        assert jwt.get_unverified_header((await sign_in(client)).tokens["access_token"])["kid"] == kid


class TestOwnPassword:
    async def test_is_changed_by_who_knows_the_old_one(self, client: httpx.AsyncClient, maria: dict[str, Any]) -> None:
        caller = await sign_in(client, "maria")
        body = {"current_password": PASSWORD, "new_password": "another long password"}
        assert (await caller("POST", "/auth/password", body)).status_code == 204
        assert code(await caller("GET", "/auth/me")) == (401, "AUTH_002")
        await sign_in(client, "maria", "another long password")

    async def test_is_not_changed_by_who_guesses(self, client: httpx.AsyncClient, maria: dict[str, Any]) -> None:
        caller = await sign_in(client, "maria")
        body = {"current_password": "a wrong password", "new_password": "another long password"}
        for _ in range(6):
            assert code(await caller("POST", "/auth/password", body)) == (401, "AUTH_002")
        right = body | {"current_password": PASSWORD}
        assert code(await caller("POST", "/auth/password", right)) == (401, "AUTH_002"), "locked after five guesses"


class TestUsers:
    async def test_a_new_user_is_shown_without_any_secret(self, admin: Caller, maria: dict[str, Any]) -> None:
        answer = await admin("GET", f"/users/{maria['user_id']}")
        assert answer.headers["ETag"] == '"v1"'
        assert answer.json() == {
            "user_id": maria["user_id"],
            "username": "maria",
            "display_name": "Maria Weber",
            "email": "maria@utility.example",
            "roles": ["Engineer"],
            "sites": ["north"],
            "active": True,
            "version": 1,
            "created_at": "2026-11-23T08:00:00.250000Z",
        }

    async def test_bad_input_is_named_field_by_field(self, admin: Caller) -> None:
        body = {"username": "no spaces please", "display_name": "", "password": "short", "sites": ["North!"]}
        answer = await admin("POST", "/users", body)
        assert code(answer) == (400, "VAL_001")
        assert {error["field"].split("[")[0] for error in answer.json()["errors"]} == {
            "username",
            "display_name",
            "password",
            "sites",
        }

    async def test_unknown_roles_and_sites_are_named(self, admin: Caller) -> None:
        answer = await admin("POST", "/users", NEW_USER | {"roles": ["Pilot"], "sites": ["moon"]})
        assert code(answer) == (400, "VAL_001")
        assert [error["message"] for error in answer.json()["errors"]] == [
            "There is no role Pilot.",
            "There is no site moon.",
        ]

    async def test_a_name_is_taken_in_any_case(self, admin: Caller, maria: dict[str, Any]) -> None:
        assert code(await admin("POST", "/users", NEW_USER | {"username": "mARIA"})) == (409, "RES_002")

    async def test_lists_are_filtered_sorted_and_paged(self, admin: Caller, maria: dict[str, Any]) -> None:
        await admin("POST", "/users", NEW_USER | {"username": "zoe", "display_name": "Zoe", "roles": []})
        page = (await admin("GET", "/users?limit=2&sort=-username")).json()
        assert ([user["username"] for user in page["items"]], page["total"]) == (["zoe", "maria"], 3)
        rest = (await admin("GET", f"/users?limit=2&sort=-username&cursor={page['next']}")).json()
        assert [user["username"] for user in rest["items"]] == ["admin"] and rest["next"] is None
        for query, names in {"role=Engineer": ["maria"], "text=WEB": ["maria"], "active=false": []}.items():
            found = (await admin("GET", f"/users?{query}")).json()
            assert [user["username"] for user in found["items"]] == names, query

    async def test_a_change_keeps_what_is_left_out(self, admin: Caller, maria: dict[str, Any]) -> None:
        path = f"/users/{maria['user_id']}"
        answer = await admin(
            "PATCH", path, {"email": None, "sites": ["south", "north", "south"]}, **{"If-Match": '"v1"'}
        )
        changed = answer.json()
        assert (changed["email"], changed["sites"], changed["display_name"]) == (
            None,
            ["north", "south"],
            "Maria Weber",
        )
        assert answer.headers["ETag"] == '"v2"'
        row = await fetchrow("select details::text from core.audit where action = 'user.change'")
        assert row is not None and '"south"' in row["details"] and "password" not in row["details"]

    async def test_a_change_of_an_old_version_is_refused(self, admin: Caller, maria: dict[str, Any]) -> None:
        path = f"/users/{maria['user_id']}"
        await admin("PATCH", path, {"display_name": "Maria W."})
        answer = await admin("PATCH", path, {"display_name": "M. Weber"}, **{"If-Match": '"v1"'})
        assert code(answer) == (412, "RES_002") and answer.json()["current_version"] == 2

    async def test_somebody_who_is_deactivated_is_out_at_once(
        self, client: httpx.AsyncClient, admin: Caller, maria: dict[str, Any]
    ) -> None:
        caller = await sign_in(client, "maria")
        await admin("PATCH", f"/users/{maria['user_id']}", {"active": False})
        assert code(await caller("GET", "/pm")) == (401, "AUTH_002")
        row = await fetchrow("select previous_status, new_status from core.audit where action = 'user.change'")
        assert row is not None and tuple(row) == ("active", "inactive")

    async def test_the_last_admin_stays(self, admin: Caller, maria: dict[str, Any]) -> None:
        me = (await admin("GET", "/auth/me")).json()["user_id"]
        for change in ({"active": False}, {"roles": ["Engineer"]}):
            assert code(await admin("PATCH", f"/users/{me}", change)) == (422, "BUS_002")
        await admin("PATCH", f"/users/{maria['user_id']}", {"roles": ["Admin"]})
        assert (await admin("PATCH", f"/users/{me}", {"roles": ["Engineer"]})).status_code == 200

    async def test_a_new_password_ends_the_users_sessions(
        self, client: httpx.AsyncClient, admin: Caller, maria: dict[str, Any]
    ) -> None:
        caller = await sign_in(client, "maria")
        path = f"/users/{maria['user_id']}/password"
        assert (await admin("POST", path, {"password": "another long password"})).status_code == 204
        assert code(await caller("GET", "/pm")) == (401, "AUTH_002")
        await sign_in(client, "maria", "another long password")

    async def test_who_is_not_there_is_a_404(self, admin: Caller) -> None:
        for method, path, body in (
            ("GET", f"/users/{uuid4()}", None),
            ("PATCH", f"/users/{uuid4()}", {}),
            ("POST", f"/users/{uuid4()}/password", {"password": "another long password"}),
            ("GET", "/users/not-a-uuid", None),
        ):
            assert code(await admin(method, path, body)) == (404, "RES_001")

    async def test_no_password_hash_ever_leaves(self, admin: Caller, maria: dict[str, Any]) -> None:
        text = (await admin("GET", "/users")).text + str(
            [tuple(row) for row in await fetch("select * from core.audit")]
        )
        assert "argon2" not in text and PASSWORD not in text


@pytest.fixture
async def clerk(client: httpx.AsyncClient, admin: Caller) -> Caller:
    """Somebody who may change users, at one site."""
    body = {"role": "Clerk", "title": "Personnel", "permissions": ["users.read", "users.write", "pm.read", "pm.write"]}
    assert (await admin("POST", "/roles", body)).status_code == 201
    await admin("POST", "/users", NEW_USER | {"username": "clerk", "roles": ["Clerk"]})
    return await sign_in(client, "clerk")


class TestNobodyGivesMoreThanTheyHave:
    async def test_no_role_with_more_permissions(self, clerk: Caller, maria: dict[str, Any]) -> None:
        answer = await clerk("POST", "/users", NEW_USER | {"username": "eve", "roles": ["Admin"]})
        assert code(answer) == (403, "AUTH_003")
        assert code(await clerk("PATCH", f"/users/{maria['user_id']}", {"roles": ["Admin"]})) == (403, "AUTH_003")

    async def test_no_site_of_others(self, clerk: Caller) -> None:
        for sites in (["south"], ["*"]):
            answer = await clerk("POST", "/users", NEW_USER | {"username": "eve", "sites": sites})
            assert code(answer) == (403, "AUTH_003")

    async def test_no_password_of_an_administrator(self, admin: Caller, clerk: Caller) -> None:
        body = NEW_USER | {"username": "boss", "roles": ["Admin"], "sites": ["north"]}
        boss = (await admin("POST", "/users", body)).json()
        path = f"/users/{boss['user_id']}/password"
        assert code(await clerk("POST", path, {"password": "another long password"})) == (403, "AUTH_003")

    async def test_no_permission_by_way_of_a_role(self, clerk: Caller) -> None:
        body = {"role": "Eve", "title": "Eve", "permissions": ["*"]}
        assert code(await clerk("POST", "/roles", body)) == (403, "AUTH_003")
        answer = await clerk("PATCH", "/roles/Clerk", {"permissions": ["audit.read"]})
        assert code(answer) == (403, "AUTH_003")

    async def test_users_of_other_sites_are_not_there(self, admin: Caller, clerk: Caller) -> None:
        other = (await admin("POST", "/users", NEW_USER | {"username": "sven", "sites": ["south"]})).json()
        assert code(await clerk("GET", f"/users/{other['user_id']}")) == (404, "RES_001")
        assert code(await clerk("PATCH", f"/users/{other['user_id']}", {"active": False})) == (404, "RES_001")
        names = [user["username"] for user in (await clerk("GET", "/users")).json()["items"]]
        assert names == ["clerk"], "neither sven of the south nor the administrator of all sites"


class TestRoles:
    async def test_a_role_takes_effect_and_loses_it(
        self, client: httpx.AsyncClient, admin: Caller, maria: dict[str, Any]
    ) -> None:
        caller = await sign_in(client, "maria")
        assert (await caller("GET", "/pm")).status_code == 200
        answer = await admin("PATCH", "/roles/Engineer", {"permissions": []}, **{"If-Match": '"v1"'})
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"v2"')
        assert code(await caller("GET", "/pm")) == (403, "AUTH_003")
        assert code(await admin("PATCH", "/roles/Engineer", {"title": "X"}, **{"If-Match": '"v1"'})) == (412, "RES_002")

    async def test_unknown_permissions_are_named(self, admin: Caller) -> None:
        body = {"role": "Pilot", "title": "Pilot", "permissions": ["pm.read", "pm.fly"]}
        answer = await admin("POST", "/roles", body)
        assert code(answer) == (400, "VAL_001") and "pm.fly" in answer.json()["errors"][0]["message"]

    async def test_a_role_may_keep_a_permission_whose_plugin_is_gone(self, admin: Caller) -> None:
        await execute("update core.role set permissions = '{old.read}' where role = 'Engineer'")
        answer = await admin("PATCH", "/roles/Engineer", {"permissions": ["old.read", "pm.read"]})
        assert answer.json()["permissions"] == ["old.read", "pm.read"]

    async def test_admin_keeps_all_permissions(self, admin: Caller) -> None:
        assert code(await admin("PATCH", "/roles/Admin", {"permissions": ["pm.read"]})) == (422, "BUS_002")

    async def test_a_role_is_deleted_when_nobody_has_it(self, admin: Caller, maria: dict[str, Any]) -> None:
        await admin("POST", "/roles", {"role": "Guest", "title": "Guest", "permissions": []})
        assert code(await admin("POST", "/roles", {"role": "Guest", "title": "Guest"})) == (409, "RES_002")
        await admin("PATCH", f"/users/{maria['user_id']}", {"roles": ["Guest"]})
        assert code(await admin("DELETE", "/roles/Guest")) == (409, "RES_002")
        await admin("PATCH", f"/users/{maria['user_id']}", {"roles": []})
        assert (await admin("DELETE", "/roles/Guest")).status_code == 204
        assert code(await admin("GET", "/roles/Guest")) == (404, "RES_001")

    async def test_a_role_of_busbar_or_a_plugin_is_not_deleted(self, admin: Caller) -> None:
        for role in ("Admin", "Engineer"):
            assert code(await admin("DELETE", f"/roles/{role}")) == (422, "BUS_002")

    async def test_roles_and_permissions_are_listed(self, admin: Caller) -> None:
        roles = (await admin("GET", "/roles")).json()
        names = [role["role"] for role in roles["items"]]
        assert {"Admin", "Engineer"} <= set(names) and names == sorted(names) and roles["total"] == len(names)
        permissions = (await admin("GET", "/permissions")).json()["items"]
        assert {"name": "audit.read", "title": "Read the audit trail"} in permissions

    async def test_somebody_without_the_right_reads_none_of_it(
        self, client: httpx.AsyncClient, maria: dict[str, Any]
    ) -> None:
        caller = await sign_in(client, "maria")
        for path in ("/users", f"/users/{UUID(int=0)}", "/roles", "/roles/Admin", "/permissions"):
            assert code(await caller("GET", path)) == (403, "AUTH_003")
