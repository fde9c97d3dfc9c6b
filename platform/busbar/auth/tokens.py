"""Issues access tokens and verifies them: one algorithm, our keys only, every claim required and of its exact type."""

import secrets
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from busbar.auth.keys import ALGORITHM, TOKEN_TYPE, SigningKeys, encode_segment
from busbar.errors import BadToken

TOKEN_BYTES_MAX: Final = 8_192
LEEWAY_S: Final = 30
"""How far the clocks of two of our processes may be apart."""
VERIFIED_MAX: Final = 5_000
"""Tokens that were verified are remembered; about 10 MB at most."""

_JWS: Final = jwt.PyJWS(algorithms=[ALGORITHM])
_REFUSED: Final = "The token is not valid; sign in again."


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an access token says (SPEC R7.1). Roles and sites are for the reader; rights come from the database."""

    iss: str
    aud: str
    sub: str
    user_id: str
    username: str
    roles: tuple[str, ...]
    sites: tuple[str, ...]
    iat: int
    """Issued at, in seconds since 1970 UTC."""
    exp: int
    """Expires at, in seconds since 1970 UTC."""
    jti: str
    typ: Literal["access"] = msgspec.field()
    sid: str
    """The session: the family of refresh tokens that one sign-in started."""


class UnknownKey(BadToken):
    """The token names no key of ours, or one that is retired."""


_decode_claims: Final = msgspec.json.Decoder(Claims).decode


class Tokens:
    """Issues and verifies with the keys of this installation."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str, ttl_s: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._ttl_s = ttl_s
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()

    def issue(
        self,
        *,
        user_id: str,
        username: str,
        roles: tuple[str, ...],
        sites: tuple[str, ...],
        family: UUID,
        now: datetime,
        not_after: datetime,
    ) -> tuple[str, int]:
        """A signed token, and for how many seconds it is valid: never beyond `not_after`, the end of the session."""
        issued = int(now.timestamp())
        expires = min(issued + self._ttl_s, int(not_after.timestamp()))
        claims = Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=user_id,
            user_id=user_id,
            username=username,
            roles=roles,
            sites=sites,
            iat=issued,
            exp=expires,
            jti=secrets.token_urlsafe(16),
            typ="access",
            sid=str(family),
        )
        return self.sign(msgspec.json.encode(claims), now=now), expires - issued

    def sign(self, payload: bytes, *, now: datetime) -> str:
        """A token with this payload, signed with the key that signs at `now`."""
        kid, private = self._keys.signer(now=now)
        return _JWS.encode(payload, private, algorithm=ALGORITHM, headers={"kid": kid, "typ": TOKEN_TYPE})

    def verify(self, token: bytes, *, now: datetime) -> Claims:
        """The claims of one of our own access tokens that is valid at `now`.

        Raises:
            UnknownKey: no key of ours that is in use made it.
            BadToken: it is anything else but a valid token of ours.
        """
        if len(token) > TOKEN_BYTES_MAX:
            raise BadToken("The token is too long.")
        header = token.partition(b".")[0].decode("latin-1")
        key = self._keys.for_header(header, now=now)
        if key is None:
            raise UnknownKey(_REFUSED)
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify_anew(token, key.public)
        else:
            self._verified.move_to_end(token)
        self._check_time(claims, now)
        return claims

    def _verify_anew(self, token: bytes, public: Ed25519PublicKey) -> Claims:
        try:
            payload = _JWS.decode(token, public, algorithms=[ALGORITHM])
            claims = _decode_claims(payload)
        except (jwt.PyJWTError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadToken(_REFUSED) from None
        # The same bytes as ours, to the last: no second spelling, duplicate claim or padding passes for the same token.
        if msgspec.json.encode(claims) != payload or not _is_canonical(token, payload):
            raise BadToken(_REFUSED)
        if claims.iss != self._issuer or claims.aud != self._audience or claims.sub != claims.user_id:
            raise BadToken(_REFUSED)
        if not claims.jti or not _is_uuid(claims.sub) or not _is_uuid(claims.sid):
            raise BadToken(_REFUSED)
        if not 0 < claims.exp - claims.iat <= self._ttl_s:
            raise BadToken(_REFUSED)
        self._verified[token] = claims
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return claims

    def _check_time(self, claims: Claims, now: datetime) -> None:
        second = now.timestamp()
        if claims.exp + LEEWAY_S <= second:
            self._forget_expired(second)
            raise BadToken("The token has expired; refresh it or sign in again.")
        if claims.iat - LEEWAY_S > second:
            raise BadToken(_REFUSED)

    def _forget_expired(self, second: float) -> None:
        """Drop remembered tokens from the oldest on that have expired."""
        while self._verified:
            token, claims = next(iter(self._verified.items()))
            if claims.exp + LEEWAY_S > second:
                return
            del self._verified[token]


def issued_at(claims: Claims) -> datetime:
    """The moment at which the token was issued."""
    return datetime.fromtimestamp(claims.iat, UTC)


def _is_canonical(token: bytes, payload: bytes) -> bool:
    """Whether the segments are the one base64url spelling of their bytes; the header was compared by the caller."""
    segments = token.split(b".")
    if len(segments) != 3 or segments[1] != encode_segment(payload).encode():
        return False
    # 64 bytes in base64url: of the last of 86 characters only the upper two bits count, the rest must be zero.
    return len(segments[2]) == 86 and segments[2][-1:] in (b"A", b"Q", b"g", b"w")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
