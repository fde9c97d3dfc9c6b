"""Which events somebody may see: those of the sites they work for, told by the modules they may read."""

import msgspec

from busbar.auth.actor import ALL_PERMISSIONS, Actor
from busbar.web.conditions import Where

_READ = ".read"


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """The sites and modules whose events an actor may see; None is all of them."""

    sites: frozenset[str] | None
    modules: frozenset[str] | None

    def includes(self, *, site_id: str, module: str) -> bool:
        """Whether an event of that site and module may be seen."""
        return (self.sites is None or site_id in self.sites) and (self.modules is None or module in self.modules)

    def narrow(self, where: Where, *, site: str, module: str) -> None:
        """Let only pass what may be seen; `site` and `module` are the SQL expressions of the two."""
        where.add(f"{site} = any({{}}::text[])", None if self.sites is None else sorted(self.sites))
        where.add(f"{module} = any({{}}::text[])", None if self.modules is None else sorted(self.modules))


def reach_of(actor: Actor) -> Reach:
    """What the actor may see."""
    sites = actor.site_filter
    named = frozenset(name.removesuffix(_READ) for name in actor.permissions if name.endswith(_READ))
    return Reach(
        sites=None if sites is None else frozenset(sites),
        modules=None if ALL_PERMISSIONS in actor.permissions else named,
    )
