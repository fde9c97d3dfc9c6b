"""Slows down guessing: so many failed sign-ins for each account and source, each source, and all together.

The numbers: five for an account from one source in 15 minutes, so that the owner at another place is never locked out;
30 for a source and 1,000 over all in five minutes. Attempts are counted before the password is looked at, so that a
hundred at once are not a hundred free ones.
"""

from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

import msgspec
import structlog
from litestar.types import Scope

from busbar.db import execute, fetchrow, fetchval, transaction
from busbar.errors import TooManyRequests

log = structlog.get_logger()

ACCOUNT_FAILURES_MAX: Final = 5
ACCOUNT_WINDOW: Final = timedelta(minutes=15)
SOURCE_FAILURES_MAX: Final = 30
SOURCE_WINDOW: Final = timedelta(minutes=5)
GLOBAL_FAILURES_MAX: Final = 1_000
GLOBAL_WINDOW: Final = timedelta(minutes=5)
KEPT: Final = timedelta(days=1)

UNHEARD: Final = ""
"""The user name under which an attempt on a locked account is counted: for its source, without prolonging the lock."""

_COUNT: Final = """
select count(*) filter (where username = $1 and source = $2) as account,
    count(*) filter (where source = $2 and at > $4) as source,
    min(at) filter (where source = $2 and at > $4) as source_first,
    count(*) filter (where at > $5) as everywhere,
    min(at) filter (where at > $5) as everywhere_first
from core.login_failure where at > $3
"""
_ADD: Final = "insert into core.login_failure (at, username, source) values ($1, $2, $3) returning id"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that was counted, and may go on."""

    attempt_id: int
    username: str
    source: str
    locked: bool
    """The account is locked for this source: the password counts for nothing, right or wrong."""


class LoginLimits:
    """Counts attempts in the database, so that all processes share the count.

    With `lockout="alarm"` accounts are never locked and the limit over all is only logged, for whoever attacks must not
    be able to keep the operators of a control room out; the limit of the attacker's own source stays.
    """

    def __init__(self, *, lockout: Literal["lock", "alarm"]) -> None:
        self._lockout = lockout

    async def count(self, username: str, source: str, *, now: datetime) -> Attempt:
        """Count an attempt as failed until `forgive` takes it back.

        Raises:
            TooManyRequests: the source, or all together, failed too often; when to come back is in `Retry-After`.
        """
        async with transaction():
            # One source's attempts are counted one after the other: else those that run at once do not see each other.
            await execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"login:{source}")
            row = await fetchrow(
                _COUNT, username, source, now - ACCOUNT_WINDOW, now - SOURCE_WINDOW, now - GLOBAL_WINDOW
            )
            if row is None:
                raise RuntimeError("a count without a row")
            if row["source"] >= SOURCE_FAILURES_MAX:
                log.warning("login_source_limited", source=source)
                raise _limited(row["source_first"] + SOURCE_WINDOW - now)
            if row["everywhere"] >= GLOBAL_FAILURES_MAX:
                log.error("login_globally_limited", failures=row["everywhere"], lockout=self._lockout)
                if self._lockout == "lock":
                    raise _limited(row["everywhere_first"] + GLOBAL_WINDOW - now)
            over = row["account"] >= ACCOUNT_FAILURES_MAX
            locked = over and self._lockout == "lock"
            if over:
                log.warning("login_repeatedly_failed", username=username, source=source, locked=locked)
            attempt_id = await fetchval(_ADD, now, UNHEARD if locked else username, source)
        return Attempt(attempt_id=attempt_id, username=username, source=source, locked=locked)

    async def withdraw(self, attempt: Attempt) -> None:
        """Take back an attempt that could not be decided."""
        await execute("delete from core.login_failure where id = $1", attempt.attempt_id)

    async def forgive(self, attempt: Attempt) -> None:
        """Forget this account's failures from this source after a successful sign-in; call it in its transaction."""
        await execute(
            "delete from core.login_failure where username = $1 and source = $2", attempt.username, attempt.source
        )


async def forget_old_failures(*, now: datetime) -> None:
    """Drop failures that no limit looks at any more."""
    await execute("delete from core.login_failure where at < $1", now - KEPT)


def source_of(scope: Scope, *, trusted_proxies: tuple[str, ...]) -> str:
    """The address that a request comes from; an IPv6 network of /64 counts as one source, for it is one customer.

    `X-Forwarded-For` is read from its right end, and only as far as each hop is a trusted proxy: what a client writes
    there itself gains nothing.
    """
    client = scope.get("client")
    address = client[0] if client else "unknown"
    networks = [ip_network(each) for each in trusted_proxies]
    hops = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    for hop in [hop.strip() for hop in reversed(hops.split(",")) if hop.strip()]:
        if not _within(address, networks) or not _is_address(hop):
            break
        address = hop
    if _is_address(address) and isinstance(ip := ip_address(address), IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Network((int(ip), 64), strict=False))
    return address


def _within(address: str, networks: list[IPv4Network | IPv6Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _limited(wait: timedelta) -> TooManyRequests:
    seconds = max(1, int(wait.total_seconds()) + 1)
    return TooManyRequests("Too many failed sign-ins; wait and try again.", retry_after_s=seconds)
