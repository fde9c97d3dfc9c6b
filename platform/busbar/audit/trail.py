"""Writes the trail: one entry for each act, in the transaction of the act itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from busbar.db import execute
from busbar.kit.clock import Clock

_APPEND = """
insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, previous_status, new_status,
    comment, details, correlation_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12)
"""

_APPEND_MANY = """
insert into core.audit (at, actor_id, actor_name, action, object_kind, object_id, site_id, details, correlation_id)
select $1, $2, $3, $4, $5, object_id, $7, $8::jsonb, $9 from unnest($6::text[]) object_id
"""


class ActorOfEntry(Protocol):
    """Who acts, as far as the trail needs to know; `busbar.auth.actor.Actor` is one."""

    @property
    def user_id(self) -> str: ...
    @property
    def username(self) -> str: ...
    def may(self, permission: str) -> bool: ...
    @property
    def site_filter(self) -> list[str] | None: ...


class ContextOfEntry(Protocol):
    """What the trail needs of a command's context; `busbar.auth.actor.Context`, which lies above it, is one."""

    @property
    def actor(self) -> ActorOfEntry: ...
    @property
    def correlation_id(self) -> str: ...
    @property
    def clock(self) -> Clock: ...


async def record(
    ctx: ContextOfEntry,
    *,
    action: str,
    object_kind: str,
    object_id: str,
    site_id: str | None = None,
    previous_status: str | None = None,
    new_status: str | None = None,
    comment: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry to the trail; call it inside the transaction that makes the change, so that neither stands alone.

    `action` is a verb such as `create`; `object_kind` and `object_id` say what was acted on. `details` are what else a
    reader should know, as JSON; never secrets, for the trail keeps them for ever.
    """
    await execute(
        _APPEND,
        ctx.clock(),
        ctx.actor.user_id,
        ctx.actor.username,
        action,
        object_kind,
        object_id,
        site_id,
        previous_status,
        new_status,
        comment,
        None if details is None else msgspec.json.encode(details).decode(),
        ctx.correlation_id,
    )


async def record_many(
    ctx: ContextOfEntry,
    *,
    action: str,
    object_kind: str,
    object_ids: Sequence[str],
    site_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add the same entry for each of many objects, in one statement; for bulk work, and otherwise like `record`."""
    await execute(
        _APPEND_MANY,
        ctx.clock(),
        ctx.actor.user_id,
        ctx.actor.username,
        action,
        object_kind,
        list(object_ids),
        site_id,
        None if details is None else msgspec.json.encode(details).decode(),
        ctx.correlation_id,
    )
