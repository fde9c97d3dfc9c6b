"""Who acts, and in which context: the explicit first argument of every command."""

import msgspec

from busbar.errors import Forbidden
from busbar.kit.clock import Clock, utc_now

ALL_SITES = "*"
ALL_PERMISSIONS = "*"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """A person, or a part of Busbar that acts by itself, with what it may do."""

    user_id: str
    username: str
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    """Names such as `pm.write`; `*` is every permission."""
    sites: tuple[str, ...] = ()
    """Site ids that the actor works for; `*` is every site."""

    def may(self, permission: str) -> bool:
        """Whether the actor holds the permission."""
        return permission in self.permissions or ALL_PERMISSIONS in self.permissions

    def sees_site(self, site_id: str) -> bool:
        """Whether the actor works for the site."""
        return ALL_SITES in self.sites or site_id in self.sites

    @property
    def site_filter(self) -> list[str] | None:
        """The site ids to which lists are limited, or None for all."""
        return None if ALL_SITES in self.sites else sorted(self.sites)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a command needs to know of its surroundings."""

    actor: Actor
    correlation_id: str
    clock: Clock = utc_now
    traceparent: str | None = None
    """W3C trace context of the request, if it had one."""
    origin: str | None = None
    """Id of the endpoint a change came in from; that endpoint is not told of it again."""

    def require(self, permission: str) -> None:
        """Refuse an actor that lacks the permission.

        Raises:
            Forbidden: naming the permission.
        """
        if not self.actor.may(permission):
            raise Forbidden(f"This needs the permission {permission}.")

    def require_site(self, site_id: str) -> None:
        """Refuse an actor that does not work for the site.

        Raises:
            Forbidden: naming the site.
        """
        if not self.actor.sees_site(site_id):
            raise Forbidden(f"You do not work for the site {site_id}.")


def system_actor(name: str) -> Actor:
    """The actor of automatic work, for example `system_actor("relay")`."""
    return Actor(
        user_id=f"system:{name}",
        username=name,
        roles=("System",),
        permissions=frozenset({ALL_PERMISSIONS}),
        sites=(ALL_SITES,),
    )
