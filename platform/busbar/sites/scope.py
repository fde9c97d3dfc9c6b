"""The sites whose rows of a module an actor may see or change."""

from busbar.auth.actor import Context
from busbar.errors import FieldError, InvalidPayload, NotFound
from busbar.sites.directory import DIRECTORY


async def module_scope(ctx: Context, module: str, site_id: str | None = None) -> list[str]:
    """The sites at which the module is enabled and for which the actor works; only `site_id` where one is asked for.

    Raises:
        NotFound: the asked site is unknown, not the actor's, or lacks the module; or the module is enabled at none of
            the actor's sites.
    """
    if site_id is not None:
        if not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        await DIRECTORY.require(site_id, module)
        return [site_id]
    sites = _seen(ctx, module)
    if not sites:
        await DIRECTORY.refresh()  # another process may have enabled the module a moment ago
        sites = _seen(ctx, module)
    if not sites:
        raise NotFound(f"The module {module} is not enabled at any of your sites; an administrator can enable it.")
    return sites


def _seen(ctx: Context, module: str) -> list[str]:
    return [site for site in DIRECTORY.sites_with(module) if ctx.actor.sees_site(site)]


async def module_site(ctx: Context, module: str, site_id: str | None, *, thing: str) -> str:
    """The site of something new, such as an "asset": the given one, or the only one that the actor works for.

    Raises:
        NotFound: as with `module_scope`.
        InvalidPayload: none is given, and there are several.
    """
    sites = await module_scope(ctx, module, site_id)
    if len(sites) != 1:
        error = FieldError(field="site", message=f"is needed; you work for {', '.join(sites[:10])}")
        raise InvalidPayload(f"Name the site of the {thing}.", errors=[error])
    return sites[0]
