"""The first start: roles, keys and the first user, whoever starts at the same time."""

import asyncio

import pytest

from busbar.auth.first_start import ensure_admin
from busbar.auth.keys import SigningKeys
from busbar.auth.passwords import WeakPassword
from busbar.auth.permissions import Permission, PermissionFault, PermissionRegistry, RoleDefault
from busbar.auth.service import Auth
from busbar.auth.sessions import login
from busbar.auth.tests.support import PASSWORD, TestBox, context, identity, registry
from busbar.db import execute, fetch, fetchrow, fetchval
from busbar.kit.clock import utc_now


class TestEnsureAdmin:
    async def test_makes_an_admin_of_all_sites_with_a_generated_password(self, auth: Auth) -> None:
        generated = await ensure_admin(auth, password=None)
        user = await fetchrow("select * from core.user_account")
        assert generated is not None and len(generated) >= 20
        assert user is not None and user["username"] == "admin"
        assert user["roles"] == ["Admin"] and user["sites"] == ["*"]
        assert user["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        signed_in = await login(auth, context(auth.clock), username="admin", password=generated, source="192.0.2.1")
        assert signed_in.expires_in_s == 600

    async def test_takes_the_given_password_and_returns_none(self, auth: Auth) -> None:
        assert await ensure_admin(auth, password=PASSWORD) is None
        assert await fetchval("select count(*) from core.user_account") == 1

    async def test_refuses_a_short_password_and_makes_nobody(self, auth: Auth) -> None:
        with pytest.raises(WeakPassword):
            await ensure_admin(auth, password="short")
        assert await fetchval("select count(*) from core.user_account") == 0

    async def test_does_nothing_when_there_is_a_user(self, auth: Auth) -> None:
        await ensure_admin(auth, password=PASSWORD)
        assert await ensure_admin(auth, password=None) is None
        assert await fetchval("select count(*) from core.user_account") == 1

    async def test_makes_one_admin_when_several_processes_start_at_once(self, auth: Auth) -> None:
        results = await asyncio.gather(*(ensure_admin(auth, password=None) for _ in range(6)))
        assert sum(result is not None for result in results) == 1
        assert await fetchval("select count(*) from core.user_account") == 1
        assert await fetchval("select count(*) from core.audit where object_kind = 'user'") == 1


class TestSigningKeysAtFirstStart:
    async def test_one_key_is_made_when_several_processes_start_at_once(self, database: str) -> None:
        box = TestBox()
        processes = [SigningKeys(box) for _ in range(6)]
        await asyncio.gather(*(keys.start(now=utc_now()) for keys in processes))
        assert await fetchval("select count(*) from core.signing_key") == 1
        assert len({keys.signer(now=utc_now())[0] for keys in processes}) == 1

    async def test_the_private_half_is_stored_encrypted(self, database: str) -> None:
        async with identity() as auth:
            raw = auth.keys.signer(now=auth.clock())[1].private_bytes_raw()
            stored = await fetchval("select private_encrypted from core.signing_key")
        assert raw.hex() not in stored and raw not in bytes.fromhex(stored)


class TestDefaultRoles:
    async def test_missing_roles_are_created_with_their_permissions(self, database: str) -> None:
        await registry().store_defaults()
        rows = {row["role"]: row["permissions"] for row in await fetch("select role, permissions from core.role")}
        assert rows == {role.role: sorted(role.permissions) for role in registry().roles}
        assert (rows["Admin"], rows["Engineer"]) == (["*"], ["pm.read", "pm.write"])

    async def test_what_an_operator_took_away_is_not_given_back(self, database: str) -> None:
        await registry().store_defaults()
        await execute("update core.role set permissions = '{pm.read}', title = 'Fitter' where role = 'Engineer'")
        await registry().store_defaults()
        row = await fetchrow("select title, permissions, version from core.role where role = 'Engineer'")
        assert row is not None and (row["title"], row["permissions"], row["version"]) == ("Fitter", ["pm.read"], 1)

    async def test_a_newly_declared_permission_is_given_once(self, database: str) -> None:
        await registry().store_defaults()
        await execute("update core.role set permissions = '{pm.read}' where role = 'Engineer'")
        newer = registry()
        newer.declare(
            [Permission(name="pm.approve", title="Approve orders")],
            [RoleDefault(role="Engineer", title="Engineer", permissions=("pm.approve",))],
        )
        await newer.store_defaults()
        assert await fetchval("select permissions from core.role where role = 'Engineer'") == ["pm.approve", "pm.read"]
        await execute("update core.role set permissions = '{pm.read}' where role = 'Engineer'")
        await newer.store_defaults()
        assert await fetchval("select permissions from core.role where role = 'Engineer'") == ["pm.read"]

    async def test_several_processes_may_store_them_at_once(self, database: str) -> None:
        await asyncio.gather(*(registry().store_defaults() for _ in range(6)))
        assert await fetchval("select max(version) from core.role") == 1

    def test_a_role_with_an_undeclared_permission_is_refused(self) -> None:
        with pytest.raises(PermissionFault, match=r"pm\.raed"):
            PermissionRegistry().declare([], [RoleDefault(role="X", title="X", permissions=("pm.raed",))])

    def test_two_titles_for_one_permission_are_refused(self) -> None:
        made = registry()
        with pytest.raises(PermissionFault, match=r"pm\.read"):
            made.declare([Permission(name="pm.read", title="Something else")])
