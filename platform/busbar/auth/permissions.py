"""Which permissions exist and which roles have them at first; after that, roles are data."""

from collections.abc import Iterable

import msgspec

from busbar.auth.actor import ALL_PERMISSIONS
from busbar.db import execute
from busbar.db.wakeup import Channel, poke
from busbar.errors import InternalError

ADMIN = "Admin"
"""The role that may do everything; at least one active user always has it."""


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """A right that a route or an action asks for."""

    name: str
    """`<module>.<verb>`, for example `pm.write`."""
    title: str
    """What it lets somebody do, for example "Create and change assets, orders and incidents"."""


class RoleDefault(msgspec.Struct, frozen=True, kw_only=True):
    """A role that should exist, with permissions that it gets once; an operator may change both afterwards.

    Several plugins may name the same role: it gets the permissions of all of them.
    """

    role: str
    title: str
    permissions: tuple[str, ...]


class PermissionFault(InternalError):
    """Two declarations contradict each other, or a role names a permission that nobody declares."""


CORE_PERMISSIONS = (
    Permission(name="tickets.read", title="See tickets of the modules that one may read"),
    Permission(name="tickets.write", title="Move, assign, hold, cancel and reopen tickets of one's modules"),
    Permission(name="sites.read", title="See sites and their modules"),
    Permission(name="sites.write", title="Make and change sites, enable modules"),
    Permission(name="sla.read", title="See calendars, targets and weather events"),
    Permission(name="sla.write", title="Set calendars and targets"),
    Permission(name="sla.declare", title="Declare, change and withdraw weather events"),
    Permission(name="plugins.read", title="See plugins and why one does not work"),
    Permission(name="events.read", title="Read and follow the events of the modules that one may read"),
    Permission(name="deliveries.read", title="See deliveries, attempts and dead letters"),
    Permission(name="deliveries.replay", title="Replay and discard dead letters"),
    Permission(name="routes.read", title="See routes"),
    Permission(name="routes.write", title="Create, change and publish routes"),
    Permission(name="endpoints.read", title="See endpoints, without their secrets"),
    Permission(name="endpoints.write", title="Create, change, test and pause endpoints"),
    Permission(name="imports.read", title="See imports and their reports"),
    Permission(name="users.read", title="See users, roles and permissions"),
    Permission(name="users.write", title="Create and change users and roles, set passwords"),
    Permission(name="audit.read", title="Read the audit trail"),
)
CORE_ROLES = (
    RoleDefault(role=ADMIN, title="Administrator", permissions=(ALL_PERMISSIONS,)),
    RoleDefault(
        role="Integration_Operator",
        title="Integration operator",
        permissions=(
            "deliveries.read",
            "deliveries.replay",
            "endpoints.read",
            "endpoints.write",
            "events.read",
            "plugins.read",
            "routes.read",
            "routes.write",
            "sites.read",
        ),
    ),
)

_OFFER = """
insert into core.role as r (role, title, permissions, offered, builtin, version) values ($1, $2, $3, $3, true, 1)
on conflict (role) do update set
    permissions = array(select distinct p from unnest(r.permissions || array(
        select fresh from unnest(excluded.offered) fresh where fresh <> all (r.offered))) p order by p),
    offered = array(select distinct p from unnest(r.offered || excluded.offered) p order by p),
    version = r.version + 1
where not r.offered @> excluded.offered
"""


class PermissionRegistry:
    """Every permission of the core and of the plugins that are loaded."""

    def __init__(self) -> None:
        self._permissions: dict[str, Permission] = {}
        self._roles: dict[str, RoleDefault] = {}
        self.declare(CORE_PERMISSIONS, CORE_ROLES)

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """All permissions, by name."""
        return tuple(self._permissions[name] for name in sorted(self._permissions))

    @property
    def roles(self) -> tuple[RoleDefault, ...]:
        """All default roles, by name, each with the permissions that were declared for it anywhere."""
        return tuple(self._roles[name] for name in sorted(self._roles))

    def __contains__(self, name: object) -> bool:
        return name in self._permissions or name == ALL_PERMISSIONS

    def declare(self, permissions: Iterable[Permission], roles: Iterable[RoleDefault] = ()) -> None:
        """Add what a plugin, or a part of the core, declares; declaring the same again is harmless.

        Raises:
            PermissionFault: a permission is declared already with another title, or a role names one that is not
                declared. Nothing was added.
        """
        permissions, roles = tuple(permissions), tuple(roles)
        known = dict(self._permissions)
        for permission in permissions:
            if known.setdefault(permission.name, permission) != permission:
                raise PermissionFault(f"The permission {permission.name} is declared twice, with different titles.")
        for role in roles:
            for name in role.permissions:
                if name not in known and name != ALL_PERMISSIONS:
                    raise PermissionFault(f"The role {role.role} names the permission {name}, which nobody declares.")
        self._permissions = known
        for role in roles:
            before = self._roles.get(role.role)
            if before is not None:
                merged = tuple(sorted({*before.permissions, *role.permissions}))
                role = msgspec.structs.replace(before, permissions=merged)
            self._roles[role.role] = role

    async def store_defaults(self) -> None:
        """Create the default roles that are missing, and give the others what was declared since; call it at start.

        A permission is offered to a role only once: what an operator took away is not given back, titles and roles
        that an operator changed stay. Several processes may do this at once.
        """
        changed = False
        for role in self.roles:
            tag = await execute(_OFFER, role.role, role.title, sorted(set(role.permissions)))
            changed |= tag != "INSERT 0 0"
        if changed:
            poke(Channel.CONFIG)
