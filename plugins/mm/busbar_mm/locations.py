"""Storage locations: the places of a site where materials are kept; posting to a new one makes it."""

import asyncpg

from busbar.sdk import Conflict, Context, execute, module_scope, record, transaction

_INSERT = """
insert into mm.storage_location (site_id, storage_location, title, created_at) values ($1, $2, $3, $4)
"""


async def add_location(ctx: Context, *, site_id: str, storage_location: str, title: str) -> None:
    """Add a storage location.

    Raises:
        NotFound: the site is not the actor's, or lacks materials management.
        Conflict: the site has it.
    """
    ctx.require("mm.write")
    await module_scope(ctx, "mm", site_id)
    async with transaction():
        try:
            async with transaction():
                await execute(_INSERT, site_id, storage_location, title, ctx.clock())
        except asyncpg.UniqueViolationError:
            raise Conflict(f"The site {site_id} has a storage location {storage_location} already.") from None
        await record(
            ctx, action="location.create", object_kind="storage_location", object_id=storage_location, site_id=site_id
        )


async def ensure_location(ctx: Context, site_id: str, storage_location: str) -> None:
    """Make a storage location unless the site has it, in the transaction of what needs it."""
    await execute(f"{_INSERT} on conflict do nothing", site_id, storage_location, "", ctx.clock())
