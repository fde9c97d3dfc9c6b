"""Making and changing sites, and enabling modules at them, while everything runs."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.db import execute, fetchrow, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, FieldError, Forbidden, InvalidPayload, NotFound
from busbar.sites.calendars import renew_calendar
from busbar.web.conditional import ANY_VERSION, IfMatch


def _changed() -> None:
    poke(Channel.CONFIG)


async def create_site(
    ctx: Context, *, site_id: str, name: str, timezone: str = "UTC", modules: Sequence[str] = ()
) -> None:
    """Make a site with these modules enabled.

    Raises:
        Forbidden: the actor works for some sites only, and could not even see the new one.
        Conflict: the id is taken.
        InvalidPayload: the time zone is not one of the IANA database.
    """
    if ctx.actor.site_filter is not None:
        raise Forbidden("Only somebody who works for all sites can make a site.")
    check_timezone(timezone)
    async with transaction():
        try:
            await execute(
                "insert into core.site (site_id, name, timezone, created_at) values ($1, $2, $3, $4)",
                site_id,
                name,
                timezone,
                ctx.clock(),
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is a site {site_id} already.") from None
        for module in modules:
            await _set_module(site_id, module, enabled=True)
        await record(
            ctx,
            action="site.create",
            object_kind="site",
            object_id=site_id,
            site_id=site_id,
            details={"name": name, "timezone": timezone, "modules": list(modules)},
        )
        on_commit(_changed)


async def change_site(
    ctx: Context, site_id: str, *, name: str | None = None, timezone: str | None = None, expected: IfMatch = ANY_VERSION
) -> int:
    """Change a site's name or time zone, its calendar with it; returns its new version.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: the time zone is not one of the IANA database.
    """
    if timezone is not None:
        check_timezone(timezone)
    async with transaction():
        row = await fetchrow("select * from core.site where site_id = $1 for update", site_id)
        if row is None or not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        expected.require(row["version"])
        await execute(
            "update core.site set name = $2, timezone = $3, version = version + 1 where site_id = $1",
            site_id,
            name or row["name"],
            timezone or row["timezone"],
        )
        if timezone is not None and timezone != row["timezone"]:
            await renew_calendar(ctx, site_id, timezone=timezone)
        await record(
            ctx,
            action="site.change",
            object_kind="site",
            object_id=site_id,
            site_id=site_id,
            details={"name": name, "timezone": timezone},
        )
        on_commit(_changed)
        return int(row["version"]) + 1


async def set_module(ctx: Context, site_id: str, module: str, *, enabled: bool) -> None:
    """Enable or disable a module at a site; data stays either way.

    Raises:
        NotFound: there is no such site, or the actor does not work for it.
    """
    async with transaction():
        row = await fetchrow("select 1 from core.site where site_id = $1 for update", site_id)
        if row is None or not ctx.actor.sees_site(site_id):
            raise NotFound(f"There is no site {site_id}.")
        await _set_module(site_id, module, enabled=enabled)
        await record(
            ctx,
            action="site.enable_module" if enabled else "site.disable_module",
            object_kind="site",
            object_id=site_id,
            site_id=site_id,
            details={"module": module},
        )
        on_commit(_changed)


async def _set_module(site_id: str, module: str, *, enabled: bool) -> None:
    await execute(
        "insert into core.site_module (site_id, module, enabled) values ($1, $2, $3) "
        "on conflict (site_id, module) do update set enabled = excluded.enabled",
        site_id,
        module,
        enabled,
    )


def check_timezone(timezone: str) -> None:
    """Refuse what is not a time zone.

    Raises:
        InvalidPayload: naming the field.
    """
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        error = FieldError(field="timezone", message="not a time zone such as Europe/Berlin")
        raise InvalidPayload("The time zone is not known.", errors=[error]) from None
