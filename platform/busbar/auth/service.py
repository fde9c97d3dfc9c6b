"""Identity as one object: the application makes one, starts it, and gives it to the guard and the routes."""

from datetime import UTC, datetime, timedelta

from busbar.audit import record
from busbar.auth.actor import Actor, Context
from busbar.auth.config import AuthSettings
from busbar.auth.directory import Directory
from busbar.auth.keys import SecretBox, SigningKeys
from busbar.auth.limits import LoginLimits
from busbar.auth.passwords import Passwords
from busbar.auth.permissions import PermissionRegistry
from busbar.auth.tokens import LEEWAY_S, Claims, Tokens, UnknownKey, issued_at
from busbar.db import transaction
from busbar.errors import BadToken
from busbar.kit.clock import Clock, utc_now

_UNKNOWN_KEY_RELOAD_S = 1.0


class Auth:
    """Who signs in, with what, and what they may do."""

    def __init__(
        self,
        settings: AuthSettings,
        *,
        box: SecretBox,
        registry: PermissionRegistry | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """`box` encrypts the signing keys at rest; `registry` holds the permissions that plugins declared."""
        self.settings = settings
        self.clock = clock
        self.registry = registry or PermissionRegistry()
        self.keys = SigningKeys(box)
        self.tokens = Tokens(self.keys, issuer=settings.issuer, audience=settings.audience, ttl_s=settings.access_ttl_s)
        self.directory = Directory(self.keys, clock=clock, token_life_s=settings.access_ttl_s + 2 * LEEWAY_S)
        self.limits = LoginLimits(lockout=settings.lockout)
        self.passwords = Passwords()
        self.cleaned_at = datetime.fromtimestamp(0, UTC)
        """When old sessions and failures were last dropped, by this process."""
        self._keys_asked_at = datetime.fromtimestamp(0, UTC)

    async def start(self) -> None:
        """Make or load the signing keys and store the default roles; the database must be migrated."""
        await self.keys.start(now=self.clock())
        await self.registry.store_defaults()
        # Makes the hash that unknown users are compared with, so that not even the first of them is answered slower.
        await self.passwords.verify("", None)

    def close(self) -> None:
        """End the password threads and stop listening for changes."""
        self.passwords.close()
        self.directory.close()

    async def rotate_keys(self, ctx: Context, *, after_s: int = 0) -> str:
        """Sign with a new key in `after_s` seconds; tokens of the old one stay valid until they expire.

        Returns the new key's id. Raises Conflict: one waits for its time already, and this is for later too.
        """
        verify_s = self.settings.access_ttl_s + LEEWAY_S
        async with transaction():
            kid = await self.keys.rotate(now=self.clock(), verify_s=verify_s, after_s=after_s)
            await record(
                ctx, action="signing_key.rotate", object_kind="signing_key", object_id=kid, details={"after_s": after_s}
            )
        await self.keys.reload(now=self.clock())
        return kid

    async def authenticate(self, token: bytes) -> tuple[Actor, Claims]:
        """Whose token it is, with today's permissions, and what it says.

        Raises:
            BadToken: it is not a valid token of ours, its session has ended, or its user may not sign in.
            Unavailable: the user cannot be looked up.
        """
        await self.directory.refresh_if_needed()
        now = self.clock()
        try:
            claims = self.tokens.verify(token, now=now)
        except UnknownKey:
            # Another process may have rotated the keys a moment ago. Strangers' tokens must not cause a query each.
            if abs((now - self._keys_asked_at).total_seconds()) < _UNKNOWN_KEY_RELOAD_S:
                raise
            self._keys_asked_at = now
            await self.keys.reload(now=now)
            claims = self.tokens.verify(token, now=now)
        standing = await self.directory.standing(claims.user_id)
        if standing is None or not standing.active or self.directory.has_ended(claims.sid):
            raise BadToken("The session has ended; sign in again.")
        if issued_at(claims) + timedelta(seconds=LEEWAY_S) < standing.sessions_valid_from:
            raise BadToken("The session has ended; sign in again.")
        return standing.actor, claims
