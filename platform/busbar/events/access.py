"""Which events somebody may see: those of the sites they work for, told by the modules they may read."""

from typing import Any

import msgspec

from busbar.auth.actor import ALL_PERMISSIONS, Actor

_READ = ".read"


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """The sites and modules whose events an actor may see; None is all of them."""

    sites: frozenset[str] | None
    modules: frozenset[str] | None

    def includes(self, *, site_id: str, module: str) -> bool:
        """Whether an event of that site and module may be seen."""
        return (self.sites is None or site_id in self.sites) and (self.modules is None or module in self.modules)


def reach_of(actor: Actor) -> Reach:
    """What the actor may see."""
    sites = actor.site_filter
    named = frozenset(name.removesuffix(_READ) for name in actor.permissions if name.endswith(_READ))
    return Reach(
        sites=None if sites is None else frozenset(sites),
        modules=None if ALL_PERMISSIONS in actor.permissions else named,
    )


class Where:
    """The condition of a list: parts that all must hold, and their numbered values."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, value: Any) -> None:
        """A part with one value, whose place is written `{0}`; nothing when the value is None."""
        if value is not None:
            self.values.append(value)
            self._parts.append(condition.format(f"${len(self.values)}"))

    def add_plain(self, condition: str) -> None:
        """A part without a value."""
        self._parts.append(condition)

    def limit_to(self, reach: Reach, *, site: str, module: str) -> None:
        """Only what may be seen; `site` and `module` are the SQL expressions of the two."""
        self.add(f"{site} = any({{0}}::text[])", None if reach.sites is None else sorted(reach.sites))
        self.add(f"{module} = any({{0}}::text[])", None if reach.modules is None else sorted(reach.modules))

    @property
    def sql(self) -> str:
        """What follows WHERE."""
        return " and ".join(self._parts) or "true"
