"""The keys that sign access tokens: made at first start, stored encrypted, rotated without a wrong refusal."""

import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from busbar.db import execute, fetch, fetchval, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import InternalError

ALGORITHM: Final = "EdDSA"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a name, not a secret
"""The header's `typ` of an access token (RFC 9068)."""

_LOCK_KEY: Final = 0x6275_736B_6579
"""Advisory lock for making keys; "buskey" in ASCII."""
_CURRENT: Final = "select 1 from core.signing_key where retired_at is null"
_INSERT: Final = """
insert into core.signing_key (kid, public_jwk, private_encrypted, created_at) values ($1, $2, $3, $4)
"""
# A private half that signs no longer is erased at once; the public half verifies until the last token has expired.
_RETIRE: Final = """
update core.signing_key set retired_at = $1, private_encrypted = '' where retired_at is null
"""
_USABLE: Final = """
select kid, public_jwk, private_encrypted, retired_at from core.signing_key
where retired_at is null or retired_at > $1 order by created_at desc, kid
"""


class SecretBox(Protocol):
    """Encrypts what is stored; the application gives one that uses the installation's secret key."""

    def encrypt(self, plain: bytes, *, context: str) -> str:
        """Seal `plain` so that only `decrypt` with the same context opens it."""
        ...

    def decrypt(self, sealed: str, *, context: str) -> bytes:
        """Open what `encrypt` made; raises when it was altered or belongs to another context."""
        ...


class NoSigningKey(InternalError):
    """There is no key to sign with: the keys were not loaded, or the stored one cannot be decrypted."""


class VerifyingKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of one of our keys."""

    kid: str
    public: Ed25519PublicKey
    jwk: dict[str, str]
    retired_at: datetime | None
    """From then on it verifies nothing; None for the key that signs."""


async def sealed_keys_exist() -> bool:
    """Whether the database holds a signing key that only the installation's secret key can open."""
    return bool(await fetchval("select exists(select from core.signing_key where private_encrypted <> '')"))


class SigningKeys:
    """The keys of the installation, as this process knows them; `reload` follows what other processes changed."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._private: Ed25519PrivateKey | None = None
        self._kid = ""
        self._by_header: dict[str, VerifyingKey] = {}

    async def start(self, *, now: datetime) -> None:
        """Make the first key if there is none, and load; of several processes that start at once, one makes it."""
        async with transaction():
            await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
            if not await fetchval(_CURRENT):
                await self._create(now)
        await self.reload(now=now)

    async def rotate(self, *, now: datetime, verify_s: int) -> str:
        """Sign with a new key from now on; the old one verifies for `verify_s` more seconds. Returns the new key id."""
        async with transaction():
            await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
            await execute(_RETIRE, now + timedelta(seconds=verify_s))
            kid = await self._create(now)
        await self.reload(now=now)
        poke(Channel.CONFIG)
        return kid

    async def reload(self, *, now: datetime) -> None:
        """Read the keys that may be used at `now`.

        Raises:
            NoSigningKey: the table holds none, which `start` would have made.
        """
        rows = await fetch(_USABLE, now)
        current = next((row for row in rows if row["retired_at"] is None), None)
        if current is None:
            raise NoSigningKey("There is no key to sign tokens with; restart Busbar to make one.")
        if current["kid"] != self._kid:
            raw = self._box.decrypt(current["private_encrypted"], context=_context(current["kid"]))
            self._private, self._kid = Ed25519PrivateKey.from_private_bytes(raw), current["kid"]
        known = {key.kid: key for key in self._by_header.values()}
        self._by_header = {header_segment(row["kid"]): _verifying_key(row, known.get(row["kid"])) for row in rows}

    @property
    def signer(self) -> tuple[str, Ed25519PrivateKey]:
        """The id of the key that signs, and its private half.

        Raises:
            NoSigningKey: `start` was not awaited.
        """
        if self._private is None:
            raise NoSigningKey("The signing keys were not loaded.")
        return self._kid, self._private

    def for_header(self, segment: str, *, now: datetime) -> VerifyingKey | None:
        """Our key whose tokens begin with exactly this header segment, unless it is retired."""
        key = self._by_header.get(segment)
        if key is None or (key.retired_at is not None and key.retired_at <= now):
            return None
        return key

    def jwks(self, *, now: datetime) -> dict[str, Any]:
        """The public halves as a JSON Web Key Set (RFC 7517), the one that signs first."""
        return {"keys": [key.jwk for key in self._by_header.values() if key.retired_at is None or key.retired_at > now]}

    async def _create(self, now: datetime) -> str:
        private = Ed25519PrivateKey.generate()
        x = encode_segment(private.public_key().public_bytes_raw())
        # RFC 7638: the thumbprint is over exactly these members, in this order.
        kid = encode_segment(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": ALGORITHM}
        sealed = self._box.encrypt(private.private_bytes_raw(), context=_context(kid))
        await execute(_INSERT, kid, msgspec.json.encode(jwk).decode(), sealed, now)
        return kid


def header_segment(kid: str) -> str:
    """The one header that our tokens have, encoded; another spelling of the same header is not accepted."""
    header = {"alg": ALGORITHM, "kid": kid, "typ": TOKEN_TYPE}
    return encode_segment(msgspec.json.encode(header))


def encode_segment(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _verifying_key(row: Any, known: VerifyingKey | None) -> VerifyingKey:
    if known is not None:
        return msgspec.structs.replace(known, retired_at=row["retired_at"])
    jwk = msgspec.json.decode(row["public_jwk"], type=dict[str, str])
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    return VerifyingKey(kid=row["kid"], public=public, jwk=jwk, retired_at=row["retired_at"])


def _context(kid: str) -> str:
    return f"signing-key:{kid}"
