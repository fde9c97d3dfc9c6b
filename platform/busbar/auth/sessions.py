"""Signs people in, keeps their sessions alive by rotating refresh tokens, and ends sessions.

A session is a family of refresh tokens. A refresh token works once. Presented again within the grace (10 s) while its
successor is unused, it gives the very same successor, for then the first answer was lost, or several windows asked at
once; there is never a second branch. Presented at any other time it is taken for stolen, and the family ends. The
successor is computed from the token itself and a seed that is stored, so that it can be told again only to who holds
the token, and the database alone gives nobody a token.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from busbar.audit import record
from busbar.auth.actor import Actor, Context
from busbar.auth.limits import Attempt, forget_old_failures
from busbar.auth.passwords import is_outdated
from busbar.auth.service import Auth
from busbar.db import execute, fetch, fetchrow, in_transaction, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import BadToken, Unavailable
from busbar.kit.ids import uuid7

log = structlog.get_logger()

SIGN_IN_REFUSED: Final = "The user name or the password is wrong, or the account is locked for now."
"""The one answer to an unknown user, a wrong password, a locked and a deactivated account: it gives nothing away."""
SESSION_OVER: Final = "The session has ended; sign in again."

_HOUSEKEEPING: Final = timedelta(hours=1)

_USER: Final = """
select user_id, username, password_hash, roles, sites, active from core.user_account
"""
# Whatever touches a user's sessions locks the user first: requests take turns, and cannot wait for each other.
_LOCK_USER_OF: Final = """
select u.user_id, u.username, u.roles, u.sites, u.active
from core.user_account u join core.refresh_token t on t.user_id = u.user_id where t.token_hash = $1 for update of u
"""
_LOCK_USER: Final = "select from core.user_account where user_id = $1 for update"
_FIND: Final = """
select token_hash, family, user_id, expires_at, family_expires_at, used_at, successor_seed, revoked_at
from core.refresh_token where token_hash = $1
"""
_ADD: Final = """
insert into core.refresh_token (token_hash, family, user_id, issued_at, expires_at, family_expires_at)
values ($1, $2, $3, $4, $5, $6)
"""
_USE: Final = "update core.refresh_token set used_at = $2, successor_seed = $3 where token_hash = $1"
# A token's seed is kept until its successor is used: without it, it is known that there can be no honest retry.
_FORGET_SEEDS: Final = """
update core.refresh_token set successor_seed = null
where family = $1 and token_hash <> $2 and successor_seed is not null
"""
_END_FAMILY: Final = "update core.refresh_token set revoked_at = $2 where family = $1 and revoked_at is null"
_END_FAMILIES: Final = """
update core.refresh_token set revoked_at = $2
where user_id = $1 and revoked_at is null and family_expires_at > $2 returning family
"""


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What a sign-in or a refresh gives."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    """For how many seconds the access token is valid."""


async def login(auth: Auth, ctx: Context, *, username: str, password: str, source: str) -> SignedIn:
    """Begin a session for somebody who knows the password. `source` is the address they come from.

    Raises:
        BadToken: unknown user, wrong password, locked or deactivated account, all with the same words and delay.
        TooManyRequests: the source, or all together, failed too often.
        Unavailable: too many passwords are being checked.
    """
    _refuse_open_transaction()
    now = ctx.clock()
    name = username.strip().lower()
    # Another process may have changed the key that signs; and if nobody can say, this is no failed attempt.
    await auth.directory.refresh_if_needed()
    attempt = await auth.limits.count(name, source, now=now)
    user = await fetchrow(f"{_USER} where username = $1", name)
    usable = user is not None and user["active"] and not attempt.locked
    try:
        right = await auth.passwords.verify(password, user["password_hash"] if user is not None and usable else None)
    except Unavailable:
        await auth.limits.withdraw(attempt)
        raise
    if user is None or not right:
        log.warning("login_failed", username=name, source=source, locked=attempt.locked)
        raise BadToken(SIGN_IN_REFUSED)
    signed_in = await _begin_session(auth, ctx, user, password=password, attempt=attempt, now=now)
    log.info("login", username=name, source=source)
    await _housekeeping(auth, now)
    return signed_in


async def refresh(auth: Auth, ctx: Context, *, token: str) -> SignedIn:
    """Exchange a refresh token for its successor and a new access token.

    Raises:
        BadToken: the token is unknown, expired or used, or the session or its user's right to sign in has ended.
    """
    _refuse_open_transaction()
    now = ctx.clock()
    await auth.directory.refresh_if_needed()  # another process may have changed the key that signs
    async with transaction():
        outcome = await _rotate(auth, ctx, token, now)
    if outcome is None:
        raise BadToken(SESSION_OVER)
    if isinstance(outcome, UUID):
        log.warning("refresh_token_reused", session=str(outcome))
        poke(Channel.CONFIG)
        raise BadToken(SESSION_OVER)
    return outcome


async def logout(ctx: Context, *, family: UUID) -> None:
    """End a session of the actor, its access tokens included; ending it twice is harmless."""
    async with transaction():
        await execute(_LOCK_USER, UUID(ctx.actor.user_id))
        if await execute(_END_FAMILY, family, ctx.clock()) != "UPDATE 0":
            await record(ctx, action="logout", object_kind="session", object_id=str(family))
    poke(Channel.CONFIG)


async def end_sessions_of(user_id: UUID, *, now: datetime) -> int:
    """End every session of a user, in the caller's transaction, which has locked the user; returns how many.

    Poke CONFIG after the commit.
    """
    rows = await fetch(_END_FAMILIES, user_id, now)
    return len({row["family"] for row in rows})


async def _begin_session(
    auth: Auth, ctx: Context, user: asyncpg.Record, *, password: str, attempt: Attempt, now: datetime
) -> SignedIn:
    renewed = await auth.passwords.hash(password) if is_outdated(user["password_hash"]) else None
    family, token = uuid7(), secrets.token_urlsafe(32)
    async with transaction():
        # The password may have been changed, or the user deactivated, while this one was being checked.
        current = await fetchrow(f"{_USER} where user_id = $1 for update", user["user_id"])
        if current is None or not current["active"] or current["password_hash"] != user["password_hash"]:
            raise BadToken(SIGN_IN_REFUSED)
        if renewed is not None:
            await execute(
                "update core.user_account set password_hash = $2 where user_id = $1", user["user_id"], renewed
            )
        family_end = now + timedelta(seconds=auth.settings.refresh_absolute_s)
        await _add(auth, token, family=family, user_id=user["user_id"], now=now, family_end=family_end)
        await auth.limits.forgive(attempt)
        await record(
            msgspec.structs.replace(ctx, actor=Actor(user_id=str(user["user_id"]), username=user["username"])),
            action="login",
            object_kind="session",
            object_id=str(family),
            details={"source": attempt.source},
        )
    return _signed_in(auth, current, token, family=family, now=now, family_end=family_end)


async def _rotate(auth: Auth, ctx: Context, token: str, now: datetime) -> SignedIn | UUID | None:
    """The successor; or the family that was ended because the token was used before; or None for a worthless token."""
    user = await fetchrow(_LOCK_USER_OF, hash_token(token))
    # Read anew, for the lock may have waited for a request that used the same token.
    row = await fetchrow(_FIND, hash_token(token))
    if user is None or row is None or not user["active"]:
        return None
    if row["revoked_at"] is not None or row["family_expires_at"] <= now:
        return None
    if row["used_at"] is not None:
        successor = _successor_again(auth, token, row, now)
        if successor is None:
            await _end_stolen(ctx, user, row["family"], now)
            return UUID(str(row["family"]))
    elif row["expires_at"] <= now:
        return None
    else:
        seed = secrets.token_bytes(32)
        successor = _successor(token, seed)
        await execute(_USE, row["token_hash"], now, seed)
        await execute(_FORGET_SEEDS, row["family"], row["token_hash"])
        await _add(
            auth,
            successor,
            family=row["family"],
            user_id=row["user_id"],
            now=now,
            family_end=row["family_expires_at"],
        )
    return _signed_in(auth, user, successor, family=row["family"], now=now, family_end=row["family_expires_at"])


def _successor_again(auth: Auth, token: str, row: asyncpg.Record, now: datetime) -> str | None:
    """The successor that was given already, if this is a retry: within the grace, and the successor is unused."""
    if row["successor_seed"] is None or now - row["used_at"] > timedelta(seconds=auth.settings.refresh_grace_s):
        return None
    return _successor(token, row["successor_seed"])


async def _end_stolen(ctx: Context, user: asyncpg.Record, family: UUID, now: datetime) -> None:
    await execute(_END_FAMILY, family, now)
    await record(
        ctx,
        action="refresh_token_reused",
        object_kind="session",
        object_id=str(family),
        comment="A used refresh token was presented again; the session was ended.",
        details={"user_id": str(user["user_id"]), "username": user["username"]},
    )


async def _add(auth: Auth, token: str, *, family: UUID, user_id: UUID, now: datetime, family_end: datetime) -> None:
    idle_end = min(now + timedelta(seconds=auth.settings.refresh_idle_s), family_end)
    await execute(_ADD, hash_token(token), family, user_id, now, idle_end, family_end)


def _signed_in(
    auth: Auth, user: Any, refresh_token: str, *, family: UUID, now: datetime, family_end: datetime
) -> SignedIn:
    access_token, expires_in_s = auth.tokens.issue(
        user_id=str(user["user_id"]),
        username=user["username"],
        roles=tuple(user["roles"]),
        sites=tuple(user["sites"]),
        family=family,
        now=now,
        not_after=family_end,
    )
    return SignedIn(access_token=access_token, refresh_token=refresh_token, expires_in_s=expires_in_s)


def _refuse_open_transaction() -> None:
    """A refusal must not undo the counted failure or the ended session, as the rollback of a caller would."""
    if in_transaction():
        raise RuntimeError("signing in and refreshing need transactions of their own")


def hash_token(token: str) -> str:
    """What is stored of a refresh token: its SHA-256. The token has 256 random bits, so no salt or delay is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def _successor(token: str, seed: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(token.encode(), seed, "sha256")).rstrip(b"=").decode()


async def _housekeeping(auth: Auth, now: datetime) -> None:
    """Once an hour, drop old sessions, failures that no limit looks at, and private halves that sign no more."""
    if now - auth.cleaned_at < _HOUSEKEEPING:
        return
    auth.cleaned_at = now
    await execute("delete from core.refresh_token where family_expires_at < $1", now - timedelta(days=7))
    await forget_old_failures(now=now)
    await auth.keys.erase(now=now)
