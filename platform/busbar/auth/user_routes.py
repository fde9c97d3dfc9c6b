"""The HTTP side of users, roles and permissions."""

from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, Parameter, QueryParameter

from busbar.auth import commands, queries
from busbar.auth.fields import NewRole, NewUser, PasswordChange, RoleChange, UserChange
from busbar.auth.guards import RequestContext
from busbar.auth.permissions import Permission
from busbar.auth.queries import RoleView, UserView
from busbar.auth.service import Auth
from busbar.web.access import UNKEYED, needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SearchParameter, SortParameter
from busbar.web.text import IDENTIFIER

RoleInPath = Annotated[str, Parameter(max_length=40, pattern=IDENTIFIER)]
RoleFilter = Annotated[
    str | None, QueryParameter(name="role", max_length=40, pattern=IDENTIFIER, description="Only who has this role.")
]
ActiveFilter = Annotated[bool | None, QueryParameter(name="active", description="Only who may, or may not, sign in.")]


@get("/users", opt=needs("users.read"))
async def list_users(
    ctx: RequestContext,
    text: SearchParameter = None,
    role: RoleFilter = None,
    active: ActiveFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[UserView]:
    """List users. Can be sorted by username, display_name, created_at."""
    return await queries.list_users(ctx, text=text, role=role, active=active, limit=limit, cursor=cursor, sort=sort)


@post("/users", opt=needs("users.write") | UNKEYED)
async def create_user(ctx: RequestContext, auth: NamedDependency[Auth], data: JSONBody[NewUser]) -> Response[UserView]:
    """Make a user who can sign in at once."""
    user_id = await commands.create_user(
        auth,
        ctx,
        username=data.username,
        display_name=data.display_name,
        password=data.password,
        email=data.email,
        roles=data.roles,
        sites=data.sites,
    )
    user = await queries.get_user(ctx, user_id)
    return versioned(user, user.version, status_code=201)


@get("/users/{user_id:uuid}", opt=needs("users.read"))
async def get_user(ctx: RequestContext, user_id: FromPath[UUID]) -> Response[UserView]:
    """Read one user."""
    user = await queries.get_user(ctx, user_id)
    return versioned(user, user.version)


@patch("/users/{user_id:uuid}", opt=needs("users.write"))
async def change_user(
    ctx: RequestContext, user_id: FromPath[UUID], data: JSONBody[UserChange], if_match: IfMatchHeader = None
) -> Response[UserView]:
    """Change a user's name, address, roles or sites, or whether they may sign in."""
    await commands.change_user(
        ctx,
        user_id,
        display_name=data.display_name,
        email=data.email,
        roles=data.roles,
        sites=data.sites,
        active=data.active,
        expected=parse_if_match(if_match, required=False),
    )
    user = await queries.get_user(ctx, user_id)
    return versioned(user, user.version)


@post("/users/{user_id:uuid}/password", opt=needs("users.write") | UNKEYED, status_code=204)
async def set_password(
    ctx: RequestContext, auth: NamedDependency[Auth], user_id: FromPath[UUID], data: JSONBody[PasswordChange]
) -> None:
    """Give a user a new password; all their sessions end."""
    await commands.set_password(auth, ctx, user_id, password=data.password)


@get("/roles", opt=needs("users.read"))
async def list_roles(
    limit: LimitParameter = 50, cursor: CursorParameter = None, sort: SortParameter = None
) -> Page[RoleView]:
    """List roles. Can be sorted by role, title."""
    return await queries.list_roles(limit=limit, cursor=cursor, sort=sort)


@post("/roles", opt=needs("users.write"))
async def create_role(ctx: RequestContext, auth: NamedDependency[Auth], data: JSONBody[NewRole]) -> Response[RoleView]:
    """Make a role."""
    await commands.create_role(ctx, auth.registry, role=data.role, title=data.title, permissions=data.permissions)
    role = await queries.get_role(data.role)
    return versioned(role, role.version, status_code=201)


@get("/roles/{role:str}", opt=needs("users.read"))
async def get_role(role: RoleInPath) -> Response[RoleView]:
    """Read one role."""
    found = await queries.get_role(role)
    return versioned(found, found.version)


@patch("/roles/{role:str}", opt=needs("users.write"))
async def change_role(
    ctx: RequestContext,
    auth: NamedDependency[Auth],
    role: RoleInPath,
    data: JSONBody[RoleChange],
    if_match: IfMatchHeader = None,
) -> Response[RoleView]:
    """Change a role's title or permissions; it takes effect within seconds for everybody who has it."""
    await commands.change_role(
        ctx,
        auth.registry,
        role,
        title=data.title,
        permissions=data.permissions,
        expected=parse_if_match(if_match, required=False),
    )
    changed = await queries.get_role(role)
    return versioned(changed, changed.version)


@delete("/roles/{role:str}", opt=needs("users.write"))
async def delete_role(ctx: RequestContext, role: RoleInPath, if_match: IfMatchHeader = None) -> None:
    """Remove a role that nobody has, and that neither Busbar nor a plugin brought."""
    await commands.delete_role(ctx, role, expected=parse_if_match(if_match, required=False))


@get("/permissions", opt=needs("users.read"))
async def list_permissions(auth: NamedDependency[Auth]) -> Page[Permission]:
    """List every permission of the core and of the plugins that are loaded."""
    permissions = auth.registry.permissions
    return Page(items=permissions, total=len(permissions))


USER_ROUTES = (
    list_users,
    create_user,
    get_user,
    change_user,
    set_password,
    list_roles,
    create_role,
    get_role,
    change_role,
    delete_role,
    list_permissions,
)
