"""Makes the first user, so that somebody can sign in; no default password exists (SPEC R7.7)."""

import secrets

from busbar.audit import record
from busbar.auth.actor import ALL_SITES, Context, system_actor
from busbar.auth.passwords import check_policy
from busbar.auth.permissions import ADMIN
from busbar.auth.service import Auth
from busbar.db import execute, fetchval, transaction
from busbar.kit.ids import uuid7
from busbar.observability.correlation import new_correlation_id

ADMIN_USERNAME = "admin"
_LOCK_KEY = 0x6275_7361_646D
"""Advisory lock for making the first user; "busadm" in ASCII."""
_ANYBODY = "select exists(select from core.user_account)"
_INSERT = """
insert into core.user_account (user_id, username, display_name, password_hash, roles, sites, active,
    sessions_valid_from, version, created_at)
values ($1, $2, 'Administrator', $3, $4, $5, true, $6, 1, $6)
"""


async def ensure_admin(auth: Auth, *, password: str | None) -> str | None:
    """Make the user `admin` with the role Admin and all sites if there is no user at all.

    Returns the password that was generated because none was given, to be printed once and stored nowhere; None when
    one was given, or a user exists already. Of several processes that start at once, one makes the user.

    Raises:
        WeakPassword: the given password is too easy; no user was made.
    """
    if await fetchval(_ANYBODY):
        return None
    generated = None if password else secrets.token_urlsafe(18)
    chosen = password or generated or ""
    check_policy(chosen, username=ADMIN_USERNAME, field="BUSBAR_ADMIN_PASSWORD")
    password_hash = await auth.passwords.hash(chosen)
    async with transaction():
        await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
        if await fetchval(_ANYBODY):
            return None
        user_id, now = uuid7(), auth.clock()
        await execute(_INSERT, user_id, ADMIN_USERNAME, password_hash, [ADMIN], [ALL_SITES], now)
        ctx = Context(actor=system_actor("first-start"), correlation_id=new_correlation_id(), clock=auth.clock)
        await record(ctx, action="user.create", object_kind="user", object_id=str(user_id), comment="First start")
    return generated
