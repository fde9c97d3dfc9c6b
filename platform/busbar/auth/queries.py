"""Reading users and roles; somebody who works for some sites sees the users of these, and those without any."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.auth.actor import Context
from busbar.db import fetchrow, fetchval
from busbar.errors import NotFound
from busbar.web.conditions import Where
from busbar.web.pagination import Page, SortColumn, fetch_page, page_request


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can sign in."""

    user_id: UUID
    username: str
    display_name: str
    email: str | None
    roles: tuple[str, ...]
    sites: tuple[str, ...]
    """Site ids; `*` is every site."""
    active: bool
    """Whether the user may sign in."""
    version: int
    created_at: datetime


class RoleView(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of permissions."""

    role: str
    title: str
    permissions: tuple[str, ...]
    """Names such as `pm.write`; `*` is every permission."""
    builtin: bool
    """Whether Busbar or a plugin brought it; such a role cannot be deleted."""
    version: int


USER_SORT: Final = {
    "username": SortColumn(sql="username", type=str),
    "display_name": SortColumn(sql="display_name", type=str),
    "created_at": SortColumn(sql="created_at", type=datetime),
}
ROLE_SORT: Final = {"role": SortColumn(sql="role", type=str), "title": SortColumn(sql="title", type=str)}

_USER: Final = "user_id, username, display_name, email, roles, sites, active, version, created_at"
_SEEN: Final = "($1::text[] is null or sites = '{}' or sites && $1)"
_ROLE: Final = "role, title, permissions, builtin, version"


async def get_user(ctx: Context, user_id: UUID) -> UserView:
    """One user.

    Raises:
        NotFound: there is no such user, or it works only for other sites.
    """
    row = await fetchrow(
        f"select {_USER} from core.user_account where {_SEEN} and user_id = $2", ctx.actor.site_filter, user_id
    )
    if row is None:
        raise NotFound("There is no such user.")
    return _user(row)


async def display_name_of(user_id: str) -> str:
    """What the user is called; empty when there is no such user."""
    name = await fetchval("select display_name from core.user_account where user_id = $1", UUID(user_id))
    return name or ""


async def list_users(
    ctx: Context,
    *,
    text: str | None,
    role: str | None,
    active: bool | None,
    limit: int,
    cursor: str | None,
    sort: str | None,
) -> Page[UserView]:
    """A page of users; `text` is looked for in names."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=USER_SORT, default="username", key="username")
    where = Where(_SEEN, ctx.actor.site_filter)
    where.add("(strpos(username, lower({})) > 0 or strpos(lower(display_name), lower({})) > 0)", text)
    where.add("{} = any(roles)", role)
    where.add("active = {}", active)
    return await fetch_page(asked, where, columns=_USER, source="core.user_account", to_item=_user)


async def get_role(role: str) -> RoleView:
    """One role.

    Raises:
        NotFound: there is no such role.
    """
    row = await fetchrow(f"select {_ROLE} from core.role where role = $1", role)
    if row is None:
        raise NotFound(f"There is no role {role}.")
    return RoleView(**row)


async def list_roles(*, limit: int, cursor: str | None, sort: str | None) -> Page[RoleView]:
    """A page of roles."""
    asked = page_request(limit=limit, cursor=cursor, sort=sort, columns=ROLE_SORT, default="role", key="role")
    return await fetch_page(asked, Where(), columns=_ROLE, source="core.role", to_item=lambda row: RoleView(**row))


def _user(row: Any) -> UserView:
    return UserView(**row)
