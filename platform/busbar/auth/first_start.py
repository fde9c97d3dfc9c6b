"""Makes the first user, so that somebody can sign in; no default password exists (SPEC R7.7)."""

import secrets

from busbar.audit import record
from busbar.auth.actor import ALL_SITES, Context, system_actor
from busbar.auth.passwords import Passwords, check_policy
from busbar.auth.permissions import ADMIN
from busbar.db import execute, fetchval, transaction
from busbar.kit.clock import Clock, utc_now
from busbar.kit.ids import uuid7
from busbar.observability.correlation import new_correlation_id

ADMIN_USERNAME = "admin"
_LOCK_KEY = 0x6275_7361_646D
"""Advisory lock for making the first user; "busadm" in ASCII."""
_INSERT = """
insert into core.user_account (user_id, username, display_name, password_hash, roles, sites, active,
    sessions_valid_from, version, created_at)
values ($1, $2, 'Administrator', $3, $4, $5, true, $6, 1, $6)
"""


async def ensure_admin(password: str | None, *, clock: Clock = utc_now) -> str | None:
    """Make the user `admin` with the role Admin and all sites if there is no user at all.

    Returns the password that was generated because none was given, to be printed once and stored nowhere; None when
    one was given, or a user exists already. Of several processes that start at once, one makes the user.

    Raises:
        WeakPassword: the given password is too easy; no user was made.
    """
    if await fetchval("select exists(select from core.user_account)"):
        return None
    generated = None if password else secrets.token_urlsafe(18)
    chosen = password or generated or ""
    check_policy(chosen, username=ADMIN_USERNAME, field="BUSBAR_ADMIN_PASSWORD")
    passwords = Passwords()
    try:
        password_hash = await passwords.hash(chosen)
    finally:
        passwords.close()
    async with transaction():
        await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
        if await fetchval("select exists(select from core.user_account)"):
            return None
        user_id = uuid7()
        await execute(_INSERT, user_id, ADMIN_USERNAME, password_hash, [ADMIN], [ALL_SITES], clock())
        ctx = Context(actor=system_actor("first-start"), correlation_id=new_correlation_id(), clock=clock)
        await record(ctx, action="create", object_kind="user", object_id=str(user_id), comment="First start")
    return generated
