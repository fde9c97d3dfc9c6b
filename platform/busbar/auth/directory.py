"""What this process knows of users, roles and ended sessions: never older than four seconds, usually milliseconds.

A token says who somebody is; what they may do is read here. So whoever is demoted, disabled or signed out is refused
within five seconds everywhere, and at once where NOTIFY arrives, without a query for each request.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from busbar.auth.actor import Actor
from busbar.auth.keys import SigningKeys
from busbar.db import fetch, spawn
from busbar.db.wakeup import Channel, signal
from busbar.errors import Unavailable
from busbar.kit.clock import Clock

log = structlog.get_logger()

REFRESH_AFTER_S: Final = 2.0
"""Knowledge of this age is renewed in the background while it still serves."""
AGE_S_MAX: Final = 4.0
"""Knowledge of this age does not serve: requests wait for the renewal, and are refused when that fails."""
USERS_MAX: Final = 5_000
"""Users beyond so many are forgotten at a renewal and read again when they come back."""

_USERS: Final = """
select user_id, username, roles, sites, active, sessions_valid_from from core.user_account where user_id = any($1)
"""
_ROLES: Final = "select role, permissions from core.role"
_ENDED: Final = "select distinct family from core.refresh_token where revoked_at > $1"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A user as of the last renewal."""

    actor: Actor
    active: bool
    sessions_valid_from: datetime
    """Tokens issued before are refused."""


class Directory:
    """The users that came by lately, with their permissions, and the sessions that ended lately."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        clock: Clock,
        token_life_s: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`token_life_s`: how long an access token may live, with leeway; ended sessions are remembered so long."""
        self._keys = keys
        self._clock = clock
        self._token_life = timedelta(seconds=token_life_s)
        self._monotonic = monotonic
        self._users: dict[str, Standing | None] = {}
        self._newcomers: set[str] = set()
        self._ended: frozenset[str] = frozenset()
        self._loaded_at_s = float("-inf")
        self._wanted = 1
        self._loaded = 0
        self._renewal: asyncio.Task[Exception | None] | None = None
        self._signal = contextlib.ExitStack()
        self._changed = self._signal.enter_context(signal(Channel.CONFIG))

    def close(self) -> None:
        """Stop listening for changes."""
        self._signal.close()

    async def standing(self, user_id: str) -> Standing | None:
        """The user as of the last renewal, or None if there is no such user.

        Raises:
            Unavailable: what is known is too old, and the database cannot be asked.
        """
        if user_id not in self._users:
            self._newcomers.add(user_id)
            await self.renew()
        return self._users.get(user_id)

    def has_ended(self, family: str) -> bool:
        """Whether the session was ended, as of the last renewal."""
        return family in self._ended

    async def refresh_if_needed(self) -> None:
        """Renew when something changed or the knowledge is old; in the background while it is not too old."""
        if self._changed.is_set():
            self._changed.clear()
            await self.renew()
            return
        age_s = self._monotonic() - self._loaded_at_s
        if age_s > AGE_S_MAX:
            await self.renew()
        elif age_s > REFRESH_AFTER_S:
            self._start_renewal()

    async def renew(self) -> None:
        """Read everything anew; returns when a renewal that began after this call is done.

        Raises:
            Unavailable: the database cannot be asked now.
        """
        self._wanted += 1
        wanted = self._wanted
        while self._loaded < wanted:
            error = await asyncio.shield(self._start_renewal())
            if error is not None:
                raise Unavailable("Users cannot be looked up now; try again.", retry_after_s=2) from error

    def _start_renewal(self) -> asyncio.Task[Exception | None]:
        """The renewal that is under way, or a new one; all requests share it."""
        if self._renewal is None or self._renewal.done():
            self._renewal = spawn(self._renew(), name="directory-renewal")
        return self._renewal

    async def _renew(self) -> Exception | None:
        try:
            await self._load()
        except Exception as error:  # noqa: BLE001 - returned, and the cause in each of the requests that wait for it
            log.warning("directory_renewal_failed", error=str(error) or repr(error))
            return error
        return None

    async def _load(self) -> None:
        wanted, began_s = self._wanted, self._monotonic()
        while len(self._users) > USERS_MAX:
            del self._users[next(iter(self._users))]
        now = self._clock()
        asked = {*self._users, *self._newcomers}
        permissions = {row["role"]: row["permissions"] for row in await fetch(_ROLES)}
        rows = await fetch(_USERS, [UUID(user_id) for user_id in asked])
        found = {str(row["user_id"]): _standing(row, permissions) for row in rows}
        ended = await fetch(_ENDED, now - self._token_life)
        await self._keys.reload(now=now)
        self._newcomers -= asked
        self._users.update({user_id: found.get(user_id) for user_id in asked})
        self._ended = frozenset(str(row["family"]) for row in ended)
        self._loaded, self._loaded_at_s = wanted, began_s


def _standing(row: Any, permissions: dict[str, list[str]]) -> Standing:
    granted = frozenset(name for role in row["roles"] for name in permissions.get(role, ()))
    actor = Actor(
        user_id=str(row["user_id"]),
        username=row["username"],
        roles=tuple(row["roles"]),
        permissions=granted,
        sites=tuple(row["sites"]),
    )
    return Standing(actor=actor, active=row["active"], sessions_valid_from=row["sessions_valid_from"])
