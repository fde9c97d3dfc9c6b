"""Everything that changes users and roles: one transaction each, with its audit entry.

Nobody gives away more than they have: who creates or changes a user or role must hold every permission and work for
every site that is given, and that the user had before.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import UNSET, UnsetType

from busbar.audit import record
from busbar.auth.actor import ALL_SITES, Context
from busbar.auth.passwords import check_policy
from busbar.auth.permissions import ADMIN, PermissionRegistry
from busbar.auth.service import Auth
from busbar.auth.sessions import end_sessions_of
from busbar.db import execute, fetch, fetchrow, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import BadToken, Conflict, FieldError, Forbidden, InvalidPayload, NotFound, RuleViolated
from busbar.kit.ids import uuid7
from busbar.web.conditional import ANY_VERSION, IfMatch

_LOCK_KEY: Final = 0x6275_7375_7372
"""Advisory lock that makes changes of users take turns, so that two of them cannot each remove one of the last two
administrators; "bususr" in ASCII."""

_INSERT_USER: Final = """
insert into core.user_account (user_id, username, display_name, email, password_hash, roles, sites, active,
    sessions_valid_from, version, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $9, $8, 1, $8)
"""
_UPDATE_USER: Final = """
update core.user_account set display_name = $2, email = $3, roles = $4, sites = $5, active = $6, version = version + 1
where user_id = $1 returning version
"""
_STORE_HASH: Final = """
update core.user_account set password_hash = $2, sessions_valid_from = $3, version = version + 1 where user_id = $1
"""
_UPDATE_ROLE: Final = """
update core.role set title = $2, permissions = $3, version = version + 1 where role = $1 returning version
"""
_AN_ADMIN_IS_LEFT: Final = "select exists(select from core.user_account where active and $1 = any(roles))"


class LastAdmin(RuleViolated):
    """Somebody must be left who may do everything."""


class WrongPassword(BadToken):
    """The current password that was given to change it is wrong."""


async def create_user(
    auth: Auth,
    ctx: Context,
    *,
    username: str,
    display_name: str,
    password: str,
    email: str | None = None,
    roles: Sequence[str] = (),
    sites: Sequence[str] = (),
) -> UUID:
    """Make a user who can sign in at once; the name is kept in lower case. Returns the user's id.

    Raises:
        Conflict: the name is taken.
        InvalidPayload: the password is too easy, or a role or site does not exist.
        Forbidden: a role or site is more than the actor has.
    """
    check_policy(password, username=username.lower())
    password_hash = await auth.passwords.hash(password)
    return await add_user(
        ctx,
        username=username,
        display_name=display_name,
        password_hash=password_hash,
        email=email,
        roles=roles,
        sites=sites,
    )


async def add_user(
    ctx: Context,
    *,
    username: str,
    display_name: str,
    password_hash: str,
    email: str | None = None,
    roles: Sequence[str] = (),
    sites: Sequence[str] = (),
    active: bool = True,
) -> UUID:
    """Make a user by the Argon2id hash of a password; otherwise as `create_user`.

    Raises:
        Conflict: the name is taken.
        InvalidPayload: a role or site does not exist.
        Forbidden: a role or site is more than the actor has.
    """
    name = username.lower()
    user_id, now = uuid7(), ctx.clock()
    async with transaction():
        chosen_roles, chosen_sites = await _checked(ctx, roles=roles, sites=sites)
        try:
            await execute(
                _INSERT_USER, user_id, name, display_name, email, password_hash, chosen_roles, chosen_sites, now, active
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a user {name} already.") from None
        await record(
            ctx,
            action="user.create",
            object_kind="user",
            object_id=str(user_id),
            details={"username": name, "roles": chosen_roles, "sites": chosen_sites},
        )
        on_commit(_changed)
    return user_id


async def change_user(
    ctx: Context,
    user_id: UUID,
    *,
    display_name: str | UnsetType = UNSET,
    email: str | UnsetType | None = UNSET,
    roles: Sequence[str] | UnsetType = UNSET,
    sites: Sequence[str] | UnsetType = UNSET,
    active: bool | UnsetType = UNSET,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change what is given of a user; returns the new version. Somebody who is deactivated is signed out everywhere.

    Raises:
        NotFound: there is no such user.
        StaleVersion: somebody else changed the user meanwhile.
        InvalidPayload: a role or site does not exist.
        Forbidden: a role or site, before or after, is more than the actor has.
        LastAdmin: nobody active would be left with the role Admin.
    """
    async with transaction():
        before = await _lock_user(ctx, user_id)
        expected.require(before["version"])
        after = {
            "display_name": before["display_name"] if display_name is UNSET else display_name,
            "email": before["email"] if email is UNSET else email,
            "roles": before["roles"],
            "sites": before["sites"],
            "active": before["active"] if active is UNSET else active,
        }
        if roles is not UNSET or sites is not UNSET:
            after["roles"], after["sites"] = await _checked(
                ctx,
                roles=before["roles"] if isinstance(roles, UnsetType) else roles,
                sites=before["sites"] if isinstance(sites, UnsetType) else sites,
            )
        version: int = await fetchval(_UPDATE_USER, user_id, *after.values())
        if not await fetchval(_AN_ADMIN_IS_LEFT, ADMIN):
            raise LastAdmin(f"Nobody active would be left with the role {ADMIN}; give it to somebody else first.")
        if before["active"] and not after["active"]:
            await _sign_out(user_id, ctx)
        await _record_change(ctx, "user", str(user_id), dict(before), after)
        on_commit(_changed)
    return version


async def set_password(auth: Auth, ctx: Context, user_id: UUID, *, password: str) -> None:
    """Give a user a new password and end all their sessions.

    Raises:
        NotFound: there is no such user.
        WeakPassword: it is too easy.
        Forbidden: the user may do more than the actor.
    """
    username = await fetchval("select username from core.user_account where user_id = $1", user_id)
    check_policy(password, username=username or "")
    password_hash = await auth.passwords.hash(password)
    async with transaction():
        await _lock_user(ctx, user_id)
        await _store_password(ctx, user_id, password_hash)


async def change_own_password(auth: Auth, ctx: Context, *, current: str, new: str) -> None:
    """Replace the actor's own password and end all their sessions, this one too.

    Raises:
        WrongPassword: the current password is wrong.
        WeakPassword: the new one is too easy.
        TooManyRequests: too many attempts.
    """
    check_policy(new, username=ctx.actor.username, field="new_password")
    user_id = UUID(ctx.actor.user_id)
    attempt = await auth.limits.count(ctx.actor.username, f"user:{user_id}", now=ctx.clock())
    stored = await fetchval("select password_hash from core.user_account where user_id = $1", user_id)
    if not await auth.passwords.verify(current, None if attempt.locked else stored):
        raise WrongPassword("The current password is wrong.")
    password_hash = await auth.passwords.hash(new)
    async with transaction():
        await auth.limits.forgive(attempt)
        await _store_password(ctx, user_id, password_hash)


async def create_role(
    ctx: Context, registry: PermissionRegistry, *, role: str, title: str, permissions: Sequence[str]
) -> None:
    """Make a role.

    Raises:
        Conflict: the name is taken.
        InvalidPayload: a permission does not exist.
        Forbidden: a permission is more than the actor has.
    """
    _check_permissions(ctx, registry, permissions, before=())
    async with transaction():
        try:
            await execute(
                "insert into core.role (role, title, permissions, offered, builtin, version)"
                " values ($1, $2, $3, '{}', false, 1)",
                role,
                title,
                sorted(set(permissions)),
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a role {role} already.") from None
        details = {"title": title, "permissions": sorted(set(permissions))}
        await record(ctx, action="role.create", object_kind="role", object_id=role, details=details)
        on_commit(_changed)


async def change_role(
    ctx: Context,
    registry: PermissionRegistry,
    role: str,
    *,
    title: str | UnsetType = UNSET,
    permissions: Sequence[str] | UnsetType = UNSET,
    expected: IfMatch = ANY_VERSION,
) -> int:
    """Change a role's title or permissions; returns its new version. It takes effect within seconds everywhere.

    Raises:
        NotFound: there is no such role.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: a permission does not exist.
        Forbidden: a permission, before or after, is more than the actor has.
        RuleViolated: it is Admin, whose permissions are all there are.
    """
    async with transaction():
        before = await _lock_role(role)
        expected.require(before["version"])
        after: dict[str, Any] = {"title": before["title"] if title is UNSET else title}
        after["permissions"] = before["permissions"]
        if not isinstance(permissions, UnsetType):
            _check_permissions(ctx, registry, permissions, before=before["permissions"])
            after["permissions"] = sorted(set(permissions))
            if role == ADMIN and after["permissions"] != before["permissions"]:
                raise RuleViolated(f"The role {ADMIN} has all permissions, always; make another role for less.")
        version: int = await fetchval(
            _UPDATE_ROLE,
            role,
            after["title"],
            after["permissions"],
        )
        await _record_change(ctx, "role", role, dict(before), after)
        on_commit(_changed)
    return version


async def delete_role(ctx: Context, role: str, *, expected: IfMatch = ANY_VERSION) -> None:
    """Remove a role that nobody has.

    Raises:
        NotFound: there is no such role.
        StaleVersion: somebody else changed it meanwhile.
        RuleViolated: Busbar or a plugin brought it; it would come back at the next start.
        Conflict: somebody has it.
    """
    async with transaction():
        await _one_at_a_time()
        before = await _lock_role(role)
        expected.require(before["version"])
        _require_all(ctx, before["permissions"])
        if before["builtin"]:
            raise RuleViolated(f"The role {role} belongs to Busbar or a plugin; take its permissions away instead.")
        holders = await fetchval("select count(*) from core.user_account where $1 = any(roles)", role)
        if holders:
            raise Conflict(f"{holders} users have the role {role}; take it from them first.")
        await execute("delete from core.role where role = $1", role)
        await record(ctx, action="role.delete", object_kind="role", object_id=role)
        on_commit(_changed)


def _changed() -> None:
    poke(Channel.CONFIG)


async def _one_at_a_time() -> None:
    await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)


async def _lock_user(ctx: Context, user_id: UUID) -> asyncpg.Record:
    """The user's row, locked, if the actor may change it."""
    await _one_at_a_time()
    row = await fetchrow("select * from core.user_account where user_id = $1 for update", user_id)
    if row is None or not _sees(ctx, row["sites"]):
        raise NotFound("There is no such user.")
    _require_sites(ctx, row["sites"])
    _require_all(ctx, await _permissions_of(row["roles"]))
    return row


async def _lock_role(role: str) -> asyncpg.Record:
    row = await fetchrow("select * from core.role where role = $1 for update", role)
    if row is None:
        raise NotFound(f"There is no role {role}.")
    return row


async def _checked(ctx: Context, *, roles: Sequence[str], sites: Sequence[str]) -> tuple[list[str], list[str]]:
    """The roles and sites, sorted, if they exist and the actor may give them."""
    chosen_roles, chosen_sites = sorted(set(roles)), sorted(set(sites))
    if ALL_SITES in chosen_sites:
        chosen_sites = [ALL_SITES]
    await _one_at_a_time()
    known_roles = {row["role"] for row in await fetch("select role from core.role")}
    rows = await fetch("select site_id from core.site where site_id = any($1)", chosen_sites)
    known_sites = {ALL_SITES, *(row["site_id"] for row in rows)}
    errors = [FieldError(field="roles", message=f"There is no role {r}.") for r in chosen_roles if r not in known_roles]
    errors += [
        FieldError(field="sites", message=f"There is no site {s}.") for s in chosen_sites if s not in known_sites
    ]
    if errors:
        raise InvalidPayload("Not accepted: roles or sites that do not exist.", errors=errors)
    _require_sites(ctx, chosen_sites)
    _require_all(ctx, await _permissions_of(chosen_roles))
    return chosen_roles, chosen_sites


async def _permissions_of(roles: Iterable[str]) -> set[str]:
    rows = await fetch("select permissions from core.role where role = any($1)", list(roles))
    return {name for row in rows for name in row["permissions"]}


def _check_permissions(
    ctx: Context, registry: PermissionRegistry, permissions: Sequence[str], *, before: Sequence[str]
) -> None:
    # What the role has may stay although its plugin is not loaded now.
    unknown = [name for name in permissions if name not in registry and name not in before]
    if unknown:
        errors = [FieldError(field="permissions", message=f"There is no permission {name}.") for name in unknown]
        raise InvalidPayload("Not accepted: permissions that do not exist.", errors=errors)
    _require_all(ctx, {*permissions, *before})


def _require_all(ctx: Context, permissions: Iterable[str]) -> None:
    beyond = sorted(name for name in permissions if not ctx.actor.may(name))
    if beyond:
        raise Forbidden(f"This takes permissions that you do not have: {', '.join(beyond)}.")


def _require_sites(ctx: Context, sites: Iterable[str]) -> None:
    beyond = sorted(site for site in sites if not ctx.actor.sees_site(site))
    if beyond:
        raise Forbidden(f"This takes sites that you do not work for: {', '.join(beyond)}.")


def _sees(ctx: Context, sites: Sequence[str]) -> bool:
    """Whether the actor knows of a user with these sites, as in lists: without any, or with one in common."""
    return ctx.actor.site_filter is None or not sites or any(ctx.actor.sees_site(site) for site in sites)


async def _store_password(ctx: Context, user_id: UUID, password_hash: str) -> None:
    await execute(_STORE_HASH, user_id, password_hash, ctx.clock())
    await end_sessions_of(user_id, now=ctx.clock())
    await record(ctx, action="user.set_password", object_kind="user", object_id=str(user_id))
    on_commit(_changed)


async def _sign_out(user_id: UUID, ctx: Context) -> None:
    await execute("update core.user_account set sessions_valid_from = $2 where user_id = $1", user_id, ctx.clock())
    await end_sessions_of(user_id, now=ctx.clock())


async def _record_change(
    ctx: Context, kind: str, object_id: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    changes = {name: {"from": before[name], "to": value} for name, value in after.items() if before[name] != value}
    status = {}
    if "active" in changes:
        words = {True: "active", False: "inactive"}
        status = {"previous_status": words[before["active"]], "new_status": words[after["active"]]}
    await record(ctx, action=f"{kind}.change", object_kind=kind, object_id=object_id, details=changes, **status)
