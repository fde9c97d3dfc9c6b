"""Standard Webhooks 1.0: signing what Busbar sends, and verifying what it receives."""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from busbar.connectors.secrets import Secret
from busbar.errors import BadToken, RuleViolated, TooLarge

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

TOLERANCE_S = 300
BODY_BYTES_MAX = 1_048_576
ID_CHARACTERS_MAX = 255
SIGNATURES_MAX = 32
SECRETS_MAX = 8
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64

# A full stop separates the signed parts, so an id with one could be read in two ways.
_MESSAGE_ID = re.compile(rf"[A-Za-z0-9_:/+=@-]{{1,{ID_CHARACTERS_MAX}}}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")


class BadSignature(BadToken):
    """The webhook is not signed by the other side, is too old, or its headers are malformed."""

    title = "Bad webhook signature"


class BadSigningSecret(RuleViolated):
    """A signing secret is `whsec_` and then 24 to 64 bytes in base64."""

    title = "Bad signing secret"


class VerifiedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What a good signature vouches for. The receiver stores `message_id`: it stays the same over retries."""

    message_id: str
    sent_at: datetime


def new_signing_secret() -> Secret:
    """A random secret of 32 bytes."""
    return Secret("whsec_" + base64.b64encode(os.urandom(32)).decode())


def read_signing_secrets(value: Secret) -> tuple[Secret, ...]:
    """The signing secrets in a stored value: one, or several with blanks between them while one is being changed.

    Raises BadSigningSecret when there is none, there are too many, or one is malformed.
    """
    secrets = tuple(Secret(part) for part in value.reveal().split())
    _keys(secrets)
    return secrets


def sign(*, secrets: Sequence[Secret], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers for `body`, with one signature for each secret (several while a secret is being changed).

    `message_id` is the same for every retry, `at` is the moment of this attempt. Raises BadSigningSecret, and
    ValueError for an id that holds a full stop or other characters that the standard leaves out.
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"The webhook id {message_id!r} has characters that cannot be signed without ambiguity.")
    timestamp = str(int(at.timestamp()))
    signatures = (f"v1,{base64.b64encode(_mac(key, message_id, timestamp, body)).decode()}" for key in _keys(secrets))
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: " ".join(signatures)}


def verify(
    *, secrets: Sequence[Secret], headers: Iterable[tuple[str, str]], body: bytes, now: datetime
) -> VerifiedMessage:
    """Check that one of `secrets` signed exactly these bytes, at most five minutes from `now`.

    `headers` are all header lines as received, duplicates included; `body` is the raw body. A message that is sent
    twice passes twice: keep its id to tell. Raises BadSignature, TooLarge, or BadSigningSecret.
    """
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"A webhook may have at most {BODY_BYTES_MAX} bytes.")
    keys = _keys(secrets)
    message_id, timestamp, signature_list = _three_headers(headers)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise BadSignature(f"The header {ID_HEADER} is empty, too long, or holds characters that are not allowed.")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature(f"The header {TIMESTAMP_HEADER} is not a number of seconds since 1970.")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise BadSignature("The webhook is more than five minutes from Busbar's clock: it is old, or a clock is wrong.")
    offered = _signatures(signature_list)
    # Every pair is compared, so the time taken does not tell which secret or signature came close.
    matches = [
        hmac.compare_digest(_mac(key, message_id, timestamp, body), signature) for key in keys for signature in offered
    ]
    if not any(matches):
        raise BadSignature("No signature of the webhook matches: another secret, or a changed body.")
    return VerifiedMessage(message_id=message_id, sent_at=datetime.fromtimestamp(int(timestamp), UTC))


def _three_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str, str]:
    found: dict[str, str] = {}
    wanted = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    for name, value in headers:
        name = name.lower()
        if name not in wanted:
            continue
        if name in found:
            raise BadSignature(f"The header {name} is there twice.")
        found[name] = value
    for name in wanted:
        if name not in found:
            raise BadSignature(f"The header {name} is missing.")
    return found[ID_HEADER], found[TIMESTAMP_HEADER], found[SIGNATURE_HEADER]


def _signatures(text: str) -> list[bytes]:
    """The `v1` signatures of the header; other versions belong to schemes that Busbar does not speak."""
    items = text.split(" ", SIGNATURES_MAX)
    if len(items) > SIGNATURES_MAX:
        raise BadSignature(f"The webhook has more than {SIGNATURES_MAX} signatures.")
    found = []
    for item in items:
        version, _, encoded = item.partition(",")
        if version != "v1":
            continue
        try:
            found.append(base64.b64decode(encoded.encode(), validate=True))
        except (binascii.Error, UnicodeEncodeError) as error:
            raise BadSignature("A signature of the webhook is not base64.") from error
    return found


def _keys(secrets: Sequence[Secret]) -> list[bytes]:
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise BadSigningSecret(f"A webhook is signed with 1 to {SECRETS_MAX} secrets, not {len(secrets)}.")
    return [_key(secret) for secret in secrets]


def _key(secret: Secret) -> bytes:
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_").encode(), validate=True)
    except binascii.Error as error:
        raise BadSigningSecret("The signing secret is not base64 after `whsec_`.") from error
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise BadSigningSecret(
            f"The signing secret has {len(key)} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are needed."
        )
    return key


def _mac(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
