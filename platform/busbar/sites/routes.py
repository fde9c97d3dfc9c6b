"""The HTTP side of sites."""

from typing import Annotated, Any, ClassVar

import msgspec
from litestar import Response, get, patch, post, put
from litestar.datastructures import State
from litestar.params import JSONBody, Parameter

from busbar.auth.guards import RequestContext
from busbar.errors import FieldError, InvalidPayload, NotFound
from busbar.sites import commands, queries
from busbar.sites.directory import DIRECTORY
from busbar.sites.queries import SiteView
from busbar.web.access import needs
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.text import SLUG, Name, ShortText, Slug

SiteId = Annotated[str, Parameter(max_length=40, pattern=SLUG)]


class NewSite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A depot, plant, region or office of the utility."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "site_id": "depot-north",
        "name": "Depot North",
        "timezone": "Europe/Berlin",
        "modules": ["pm"],
    }

    site_id: Slug
    name: Name
    timezone: ShortText = "UTC"
    """A name of the IANA time zone database, such as Europe/Berlin."""
    modules: tuple[Slug, ...] = ()
    """The modules that are enabled from the start."""


class SiteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "Depot North-West"}

    name: Name | None = None
    timezone: ShortText | None = None


class ModuleSwitch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a module is enabled at a site."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"enabled": True}

    enabled: bool


@get("/sites", opt=needs("sites.read"))
async def list_sites(
    ctx: RequestContext,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[SiteView]:
    """List the caller's sites. Can be sorted by site_id, name, created_at."""
    return await queries.list_sites(ctx, limit=limit, cursor=cursor, sort=sort)


@post("/sites", opt=needs("sites.write"))
async def create_site(ctx: RequestContext, state: State, data: JSONBody[NewSite]) -> Response[SiteView]:
    """Make a site."""
    unknown = [module for module in data.modules if module not in state.modules]
    if unknown:
        raise InvalidPayload(
            "Unknown modules.",
            errors=[FieldError(field="modules", message=f"{module} is not installed") for module in unknown],
        )
    await commands.create_site(
        ctx, site_id=data.site_id, name=data.name, timezone=data.timezone, modules=sorted(set(data.modules))
    )
    await DIRECTORY.refresh()  # the caller's next request may come before the notice that a site was made
    site = await queries.get_site(ctx, data.site_id)
    return versioned(site, site.version, status_code=201)


@get("/sites/{site_id:str}", opt=needs("sites.read"))
async def get_site(ctx: RequestContext, site_id: SiteId) -> Response[SiteView]:
    """Read one site."""
    site = await queries.get_site(ctx, site_id)
    return versioned(site, site.version)


@patch("/sites/{site_id:str}", opt=needs("sites.write"))
async def change_site(
    ctx: RequestContext, site_id: SiteId, data: JSONBody[SiteChange], if_match: IfMatchHeader = None
) -> Response[SiteView]:
    """Change a site's name or time zone."""
    expected = parse_if_match(if_match, required=False)
    await commands.change_site(ctx, site_id, name=data.name, timezone=data.timezone, expected=expected)
    site = await queries.get_site(ctx, site_id)
    return versioned(site, site.version)


@put("/sites/{site_id:str}/modules/{module:str}", opt=needs("sites.write"))
async def switch_module(
    ctx: RequestContext, state: State, site_id: SiteId, module: SiteId, data: JSONBody[ModuleSwitch]
) -> SiteView:
    """Enable or disable a module at a site, without restart; its data stays."""
    if module not in state.modules:
        raise NotFound(f"There is no module {module}.")
    await commands.set_module(ctx, site_id, module, enabled=data.enabled)
    await DIRECTORY.refresh()
    return await queries.get_site(ctx, site_id)


ROUTES = (list_sites, create_site, get_site, change_site, switch_module)
