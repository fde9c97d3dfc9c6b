"""What an installation may set of identity; the defaults are those of SPEC R7 and the promises on sessions."""

from typing import Literal

import msgspec


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Lifetimes, lockout and names. Times are seconds."""

    issuer: str = "busbar"
    audience: str = "busbar-api"
    access_ttl_s: int = 600
    """How long an access token is valid."""
    refresh_idle_s: int = 1_800
    """A session ends when it was not refreshed for so long."""
    refresh_absolute_s: int = 43_200
    """A session ends so long after the sign-in, whatever happens in between."""
    refresh_grace_s: int = 10
    """So long a used refresh token gives the same successor again, in case the first answer was lost."""
    lockout: Literal["lock", "alarm"] = "lock"
    """`alarm` never locks an account, only warns: operators of control rooms must stay able to sign in (NIST AC-7)."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks, such as `10.0.0.0/24`, whose X-Forwarded-For header is believed."""
