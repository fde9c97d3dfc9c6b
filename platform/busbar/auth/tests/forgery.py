"""Tokens that must not pass: the classic attacks on JWTs and every bent claim, each made from a valid token.

`forgeries` gives (name, token) pairs. The forger even holds our signing key for the cases about claims: what is bent
there must be refused although the signature is right.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from busbar.auth.service import Auth

_NEVER = object()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Forger:
    """Takes a valid token apart and puts it together again, wrongly."""

    def __init__(self, auth: Auth, valid: str) -> None:
        self.kid, self.private = auth.keys.signer(now=auth.clock())
        self.header, self.payload, self.signature = valid.split(".")
        self.head = json.loads(base64.urlsafe_b64decode(self.header + "=="))
        self.claims = json.loads(base64.urlsafe_b64decode(self.payload + "=="))

    def sign(
        self, header: bytes | dict[str, Any], payload: bytes | dict[str, Any], key: Ed25519PrivateKey | None = None
    ) -> str:
        parts = [part if isinstance(part, bytes) else dumps(part) for part in (header, payload)]
        text = ".".join(b64(part) for part in parts)
        return f"{text}.{b64((key or self.private).sign(text.encode()))}"

    def hmac_signed(self, secret: bytes) -> str:
        text = f"{b64(dumps(self.head | {'alg': 'HS256'}))}.{self.payload}"
        return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"

    def with_claims(self, **changes: Any) -> str:
        claims = {k: v for k, v in (self.claims | changes).items() if v is not _NEVER}
        return self.sign(self.head, claims)

    def with_header(self, **changes: Any) -> str:
        header = {k: v for k, v in (self.head | changes).items() if v is not _NEVER}
        return self.sign(header, self.claims)


def forgeries(auth: Auth, valid: str) -> Iterator[tuple[str, str]]:
    """All cases."""
    forger = Forger(auth, valid)
    yield from _algorithms(forger)
    yield from _signatures(forger)
    yield from _headers(forger)
    yield from _claims(forger)
    yield from _encodings(forger)


def _algorithms(f: Forger) -> Iterator[tuple[str, str]]:
    for alg in ("none", "None", "NONE", "nOnE", "", None, "HS256", "RS256", "ES256", "Ed448", "eddsa"):
        yield f"alg {alg!r}, signed", f.with_header(alg=alg)
        yield f"alg {alg!r}, no signature", f.with_header(alg=alg).rpartition(".")[0] + "."
    yield "alg missing", f.with_header(alg=_NEVER)
    public = f.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for name, secret in {
        "PEM": pem,
        "DER": der,
        "raw": public.public_bytes_raw(),
        "blank": b"",
        "secret": b"secret",
    }.items():
        yield f"HS256 with {name}", f.hmac_signed(secret)


def _signatures(f: Forger) -> Iterator[tuple[str, str]]:
    unsigned = f"{f.header}.{f.payload}"
    yield "no signature", f"{unsigned}."
    yield "null signature", f"{unsigned}.{b64(bytes(64))}"
    yield "truncated signature", f"{unsigned}.{f.signature[:40]}"
    flipped = bytearray(base64.urlsafe_b64decode(f.signature + "=="))
    flipped[10] ^= 1
    yield "bit flipped", f"{unsigned}.{b64(bytes(flipped))}"
    yield "another key", f.sign(f.head, f.claims, Ed25519PrivateKey.generate())
    raised = b64(dumps(f.claims | {"roles": ["Admin"]}))
    yield "roles raised without a new signature", f"{f.header}.{raised}.{f.signature}"


def _headers(f: Forger) -> Iterator[tuple[str, str]]:
    own = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(own.public_key().public_bytes_raw())}
    yield "embedded jwk", f.sign(f.head | {"jwk": jwk}, f.claims, own)
    yield "embedded jwk without kid", f.sign({"alg": "EdDSA", "typ": "at+jwt", "jwk": jwk}, f.claims, own)
    for name in ("jku", "x5u"):
        yield name, f.sign(f.head | {name: "http://127.0.0.1:9/keys.json"}, f.claims, own)
    yield "x5c", f.sign(f.head | {"x5c": [b64(b"certificate")]}, f.claims, own)
    kids = ["../../../../dev/null", "/dev/null", "' or 1=1 --", "$(id)", "x" * 4_000, "", "unknown", 7, None, ["a"], {}]
    for kid in kids:
        yield f"kid {str(kid)[:20]!r}", f.with_header(kid=kid)
    yield "kid missing", f.with_header(kid=_NEVER)
    yield "crit unknown", f.with_header(crit=["exp-strict"])
    yield "b64 false", f.with_header(crit=["b64"], b64=False)
    yield "nested", f.with_header(cty="JWT")
    for typ in ("JWT", "jwt", "AT+JWT", "logout+jwt", "", None, 1):
        yield f"typ {typ!r}", f.with_header(typ=typ)
    yield "typ missing in the header", f.with_header(typ=_NEVER)
    body = dumps(f.head).decode()[1:-1]
    yield "duplicate header names", f.sign(f'{{"alg":"none",{body}}}'.encode(), f.claims)
    yield "header with BOM", f.sign(b"\xef\xbb\xbf" + dumps(f.head), f.claims)
    yield "header with trailing text", f.sign(dumps(f.head) + b" x", f.claims)
    yield "header in UTF-16", f.sign(dumps(f.head).decode().encode("utf-16"), f.claims)


def _claims(f: Forger) -> Iterator[tuple[str, str]]:
    iat, exp = f.claims["iat"], f.claims["exp"]
    for name in f.claims:
        yield f"{name} missing", f.with_claims(**{name: _NEVER})
        yield f"{name} null", f.with_claims(**{name: None})
    times: list[Any] = [0, -1, iat - 31, str(exp), float(exp), 1e30, exp + 1, iat + 3_153_600_000, True, [exp]]
    for value in times:
        yield f"exp {value!r}", f.with_claims(exp=value)
    for value in [iat + 3_600, str(iat), float(iat), -1, 2**63, None]:
        yield f"iat {value!r}", f.with_claims(iat=value, exp=exp + 3_600 if value == iat + 3_600 else exp)
    yield "nbf in the future", f.with_claims(nbf=iat + 600)
    for name, others in {"aud": "other-api", "iss": "https://evil.example"}.items():
        for value in (others, [f.claims[name]], [f.claims[name], "x"], "", 1):
            yield f"{name} {value!r}", f.with_claims(**{name: value})
    for value in (1, "", "other", "00000000-0000-4000-8000-000000000000", f.claims["sub"].upper()):
        yield f"sub {value!r}", f.with_claims(sub=value)
    nobody = "00000000-0000-4000-8000-000000000000"
    yield "a user that does not exist", f.with_claims(sub=nobody, user_id=nobody)
    yield "a user id that is no UUID", f.with_claims(sub="1 or 1=1", user_id="1 or 1=1")
    for value in ("refresh", "id", "webhook", "ACCESS", 1):
        yield f"typ {value!r} in the claims", f.with_claims(typ=value)
    for value in ("Admin", [["Admin"]], {"Admin": 1}, [1]):
        yield f"roles {value!r}", f.with_claims(roles=value)
    for value in ("", "x", 7, nobody.upper().replace("0", "A")):
        yield f"sid {value!r}", f.with_claims(sid=value)
    yield "jti empty", f.with_claims(jti="")
    yield "a claim too many", f.with_claims(admin=True)
    body = dumps(f.claims).decode()
    yield "duplicate claims", f.sign(f.head, ('{"roles":["Admin"],' + body[1:]).encode())
    yield "duplicate claims at the end", f.sign(f.head, (body[:-1] + ',"sub":"x"}').encode())


def _encodings(f: Forger) -> Iterator[tuple[str, str]]:
    plain = dumps(f.claims)
    yield "payload with spaces", f.sign(f.head, json.dumps(f.claims).encode())
    for name, payload in {
        "BOM": b"\xef\xbb\xbf" + plain,
        "NUL": plain + b"\x00",
        "trailing text": plain + b"x",
        "UTF-16": plain.decode().encode("utf-16"),
        "bad UTF-8": plain.replace(b"busbar", b"bus\xffbar"),
        "a list": b"[]",
        "a number": b"1",
        "nothing": b"",
        "deep nesting": b"[" * 2_500,
        "no JSON": b"{",
    }.items():
        yield f"payload: {name}", f.sign(f.head, payload)
    valid = f"{f.header}.{f.payload}.{f.signature}"
    yield "padding", f"{f.header}.{f.payload}=.{f.signature}=="
    # The last character of the signature holds four unused bits; another spelling of the same bytes is another token.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    yield "another spelling of the signature", valid[:-1] + last[last.index(valid[-1]) + 1]
    yield "standard alphabet", f"{f.header}.{f.payload}.{'+/' + f.signature[2:]}"
    for name, token in {
        "leading space": " " + valid,
        "trailing space": valid + " ",
        "inner space": valid.replace(".", " .", 1),
        "two parts": f"{f.header}.{f.payload}",
        "four parts": f"{valid}.{f.signature}",
        "five parts, JWE": ".".join([f.header, "", "", f.payload, f.signature]),
        "JSON form": json.dumps({"protected": f.header, "payload": f.payload, "signature": f.signature}),
        "empty parts": "..",
        "empty": "",
        "random": secrets.token_urlsafe(200),
        "nine kilobytes": f"{f.header}.{'A' * 9_000}.{f.signature}",
        "a megabyte": "A" * 1_000_000,
        "twice": f"{valid}, {valid}",
    }.items():
        yield name, token
