"""What every process knows of the sites: kept in memory, read anew when somebody changed them."""

from collections.abc import Mapping

from busbar.db import fetch
from busbar.errors import NotFound


class SiteDirectory:
    """The sites and the modules that each has enabled."""

    def __init__(self) -> None:
        self._modules: Mapping[str, frozenset[str]] = {}

    async def refresh(self) -> None:
        """Read the sites again."""
        rows = await fetch(
            "select s.site_id, array_remove(array_agg(m.module) filter (where m.enabled), null) as modules "
            "from core.site s left join core.site_module m using (site_id) group by s.site_id"
        )
        self._modules = {row["site_id"]: frozenset(row["modules"] or ()) for row in rows}

    def exists(self, site_id: str) -> bool:
        """Whether there is such a site."""
        return site_id in self._modules

    def all(self) -> list[str]:
        """The ids of all sites."""
        return sorted(self._modules)

    def enabled(self, site_id: str, module: str) -> bool:
        """Whether the module is enabled at the site."""
        return module in self._modules.get(site_id, ())

    def sites_with(self, module: str) -> list[str]:
        """The sites at which the module is enabled."""
        return sorted(site for site, modules in self._modules.items() if module in modules)

    async def require(self, site_id: str, module: str) -> None:
        """Refuse a site that is unknown or lacks the module; what another process changed a moment ago counts.

        Raises:
            NotFound: saying which.
        """
        if not self.enabled(site_id, module):
            await self.refresh()
        if self.enabled(site_id, module):
            return
        if not self.exists(site_id):
            raise NotFound(f"There is no site {site_id}.")
        raise NotFound(f"The module {module} is not enabled at the site {site_id}; an administrator can enable it.")

    async def require_site(self, site_id: str) -> None:
        """Refuse a site that is unknown, also to this moment.

        Raises:
            NotFound: there is no such site.
        """
        if not self.exists(site_id):
            await self.refresh()
        if not self.exists(site_id):
            raise NotFound(f"There is no site {site_id}.")


DIRECTORY = SiteDirectory()
"""Refreshed at start and on every change."""
