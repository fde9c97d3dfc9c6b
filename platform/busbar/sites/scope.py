"""The sites whose rows of a module an actor may see or change."""

from busbar.auth.actor import Context
from busbar.errors import NotFound
from busbar.sites.directory import DIRECTORY


def module_scope(ctx: Context, module: str, site_id: str | None = None) -> list[str]:
    """The sites at which the module is enabled and for which the actor works; only `site_id` where one is asked for.

    Raises:
        NotFound: the asked site is unknown, not the actor's, or lacks the module; or the module is enabled at none of
            the actor's sites.
    """
    if site_id is not None:
        if not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        DIRECTORY.require(site_id, module)
        return [site_id]
    sites = [site for site in DIRECTORY.sites_with(module) if ctx.actor.sees_site(site)]
    if not sites:
        raise NotFound(f"The module {module} is not enabled at any of your sites; an administrator can enable it.")
    return sites
