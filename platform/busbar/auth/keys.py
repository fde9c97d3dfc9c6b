"""The keys that sign access tokens: made at first start, stored encrypted, rotated without a wrong refusal."""

import base64
import hashlib
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from busbar.db import execute, fetch, fetchrow, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, InternalError

ALGORITHM: Final = "EdDSA"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a name, not a secret
"""The header's `typ` of an access token (RFC 9068)."""

_LOCK_KEY: Final = 0x6275_736B_6579
"""Advisory lock for making keys; "buskey" in ASCII."""
_CURRENT: Final = "select 1 from core.signing_key where retired_at is null"
_INSERT: Final = """
insert into core.signing_key (kid, public_jwk, private_encrypted, created_at, signs_from) values ($1, $2, $3, $4, $5)
"""
_LAST: Final = "select max(signs_from) from core.signing_key where kid is distinct from $1"
_NEXT: Final = """
select later.kid, later.signs_from from core.signing_key later where later.signs_from > $1 and exists (
    select from core.signing_key older where older.private_encrypted <> '' and older.signs_from < later.signs_from)
"""
_BRING_FORWARD: Final = "update core.signing_key set signs_from = $2 where kid = $1"
# The public half verifies until the last token has expired; a private half that signs no longer is erased.
_RETIRE: Final = """
update core.signing_key set retired_at = $1 where private_encrypted <> '' and kid is distinct from $2
"""
_ERASE: Final = """
update core.signing_key old set private_encrypted = '' where private_encrypted <> '' and exists (
    select from core.signing_key newer where newer.signs_from > old.signs_from and newer.signs_from <= $1)
"""
_SEALED: Final = "select kid, private_encrypted from core.signing_key where private_encrypted <> '' for update"
_RESEAL: Final = "update core.signing_key set private_encrypted = $2 where kid = $1"
_USABLE: Final = """
select kid, public_jwk, private_encrypted, retired_at, signs_from from core.signing_key
where retired_at is null or retired_at > $1 order by signs_from > $1, signs_from desc, kid
"""


class SecretBox(Protocol):
    """Encrypts what is stored; the application gives one that uses the installation's secret key."""

    def encrypt(self, plain: bytes, *, context: str) -> str:
        """Seal `plain` so that only `decrypt` with the same context opens it."""
        ...

    def is_current(self, sealed: str) -> bool:
        """Whether `encrypt` would use the same key today."""
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


class _Signer(msgspec.Struct, frozen=True, kw_only=True):
    kid: str
    private: Ed25519PrivateKey
    signs_from: datetime


async def sealed_keys_exist() -> bool:
    """Whether the database holds a signing key that only the installation's secret key can open."""
    return bool(await fetchval("select exists(select from core.signing_key where private_encrypted <> '')"))


class SigningKeys:
    """The keys of the installation, as this process knows them; `reload` follows what other processes changed."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._signers: list[_Signer] = []
        self._by_header: dict[str, VerifyingKey] = {}

    async def start(self, *, now: datetime) -> None:
        """Make the first key if there is none, and load; of several processes that start at once, one makes it."""
        async with transaction():
            await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
            if not await fetchval(_CURRENT):
                await self._create(now, signs_from=now)
        await self.reload(now=now)

    async def rotate(self, *, now: datetime, verify_s: int, after_s: int = 0) -> str:
        """Sign with a new key in `after_s` seconds; from then on the old one verifies for `verify_s` more seconds.

        It is published at once, so whoever else verifies our tokens can know it before the first. Returns its id; call
        `reload` after the commit.

        Where a new key waits for its time already, that one signs now: a key that may have leaked must not go on.

        Raises:
            Conflict: a new key waits, and another one is wanted for later.
        """
        async with transaction():
            await execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
            await execute(_ERASE, now)  # what signs no more keeps its end
            waiting = await fetchrow(_NEXT, now)
            if waiting and after_s:
                when = f"{waiting['signs_from']:%Y-%m-%d %H:%M:%S}"
                raise Conflict(f"There is a new key already; it signs from {when} UTC, or now if another one is to.")
            kid = waiting["kid"] if waiting else None
            # Later than the one before also by a clock that is behind, or that one would go on.
            before = await fetchval(_LAST, kid)
            signs_from = max(now + timedelta(seconds=after_s), before + timedelta(microseconds=1))
            await execute(_RETIRE, signs_from + timedelta(seconds=verify_s), kid)
            if kid is None:
                kid = await self._create(now, signs_from=signs_from)
            else:
                await execute(_BRING_FORWARD, kid, signs_from)
            await execute(_ERASE, now)
        on_commit(partial(poke, Channel.CONFIG))
        return kid

    async def erase(self, *, now: datetime) -> None:
        """Erase the private halves of keys that another one has replaced."""
        await execute(_ERASE, now)

    async def reseal(self) -> int:
        """Encrypt anew each private half that an older secret key has encrypted; returns how many there were.

        Raises what the box raises for one that it cannot open.
        """
        old = [row for row in await fetch(_SEALED) if not self._box.is_current(row["private_encrypted"])]
        for row in old:
            context = _context(row["kid"])
            plain = self._box.decrypt(row["private_encrypted"], context=context)
            await execute(_RESEAL, row["kid"], self._box.encrypt(plain, context=context))
        return len(old)

    async def reload(self, *, now: datetime) -> None:
        """Read the keys that may be used at `now`, and the next one.

        Raises:
            NoSigningKey: the table holds none, which `start` would have made.
        """
        rows = await fetch(_USABLE, now)
        known = {signer.kid: signer.private for signer in self._signers}
        signers = []
        for row in rows:
            kid = row["kid"]
            if row["private_encrypted"]:
                private = known.get(kid) or self._opened(kid, row["private_encrypted"])
                signers.append(_Signer(kid=kid, private=private, signs_from=row["signs_from"]))
        if not signers:
            raise NoSigningKey("There is no key to sign tokens with; restart Busbar to make one.")
        self._signers = signers
        verifying = {key.kid: key for key in self._by_header.values()}
        self._by_header = {header_segment(row["kid"]): _verifying_key(row, verifying.get(row["kid"])) for row in rows}

    def signer(self, *, now: datetime) -> tuple[str, Ed25519PrivateKey]:
        """The id of the key that signs at `now`, and its private half.

        Raises:
            NoSigningKey: `start` was not awaited.
        """
        if not self._signers:
            raise NoSigningKey("The signing keys were not loaded.")
        # By a clock that is behind none may have begun to sign; then the first one does.
        begun = [each for each in self._signers if each.signs_from <= now]
        signer = max(begun, key=_signs_from) if begun else min(self._signers, key=_signs_from)
        return signer.kid, signer.private

    def for_header(self, segment: str, *, now: datetime) -> VerifyingKey | None:
        """Our key whose tokens begin with exactly this header segment, unless it is retired."""
        key = self._by_header.get(segment)
        if key is None or (key.retired_at is not None and key.retired_at <= now):
            return None
        return key

    def jwks(self, *, now: datetime) -> dict[str, Any]:
        """The public halves as a JSON Web Key Set (RFC 7517), the one that signs first."""
        return {"keys": [key.jwk for key in self._by_header.values() if key.retired_at is None or key.retired_at > now]}

    def _opened(self, kid: str, sealed: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._box.decrypt(sealed, context=_context(kid)))

    async def _create(self, now: datetime, *, signs_from: datetime) -> str:
        private = Ed25519PrivateKey.generate()
        x = encode_segment(private.public_key().public_bytes_raw())
        # RFC 7638: the thumbprint is over exactly these members, in this order.
        kid = encode_segment(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": ALGORITHM}
        sealed = self._box.encrypt(private.private_bytes_raw(), context=_context(kid))
        await execute(_INSERT, kid, msgspec.json.encode(jwk).decode(), sealed, now, signs_from)
        return kid


def _signs_from(signer: _Signer) -> datetime:
    return signer.signs_from


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
