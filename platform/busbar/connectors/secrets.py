"""Secrets of endpoints: a type that never shows its value, and the key ring that encrypts values at rest."""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from busbar.errors import InternalError, InvalidPayload

KEY_BYTES = 32
NONCE_BYTES = 12
SECRET_BYTES_MAX = 16_384
KEYS_MAX = 16
KEY_VARIABLE = "BUSBAR_SECRET_KEY"
KEY_FILE = "secret.key"

_SEALED = re.compile(r"busbar1:(?P<key_id>[0-9a-f]{16}):(?P<box>[A-Za-z0-9_-]+={0,2})")


class BadSecretKey(InternalError):
    """The key that encrypts secrets at rest is malformed, readable by others, or cannot be read."""

    title = "Bad secret key"


class LostSecretKey(BadSecretKey):
    """The database holds what a key has encrypted, and there is no key: not in the environment, not in the home."""

    title = "Secret key lost"


class Undecipherable(InternalError):
    """A stored secret cannot be read: its key is not in the ring, or the stored text was altered or moved."""

    title = "Secret cannot be read"


class SecretTooLong(InvalidPayload):
    """A secret may have at most `SECRET_BYTES_MAX` bytes in UTF-8."""


class Secret:
    """A secret text. Printing, formatting, pickling and JSON encoding never show it; `reveal()` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret is not pickled: its value would leave the process unencrypted.")


class KeyRing:
    """Encrypts with the first key, decrypts with any: put a new key first, re-seal everything, drop the old one.

    A sealed value is the text `busbar1:<key id>:<base64url of nonce and ciphertext>`, AES-256-GCM. Its associated
    data are the endpoint and the name of the secret, so a value that is copied to another row cannot be opened.
    """

    def __init__(self, *keys: bytes) -> None:
        """`keys` are 1 to `KEYS_MAX` keys of 32 bytes, the one to encrypt with first."""
        if not 1 <= len(keys) <= KEYS_MAX:
            raise BadSecretKey(f"A key ring holds 1 to {KEYS_MAX} keys, not {len(keys)}.")
        if any(len(key) != KEY_BYTES for key in keys):
            raise BadSecretKey(f"Each key has {KEY_BYTES} bytes, written in base64.")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self.primary_id = _key_id(keys[0])

    @classmethod
    def generate(cls) -> Self:
        """A ring with one new random key that is stored nowhere, for tests and trials."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of all keys, the primary one first; an id tells nothing of its key."""
        return tuple(self._ciphers)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.key_ids)})"

    def seal(self, value: Secret, *, endpoint_id: str, name: str) -> str:
        """Encrypt `value` for this endpoint and secret name; the same value gives another text each time."""
        plain = value.reveal().encode()
        if len(plain) > SECRET_BYTES_MAX:
            raise SecretTooLong(f"The secret {name} has {len(plain)} bytes; at most {SECRET_BYTES_MAX} are taken.")
        nonce = os.urandom(NONCE_BYTES)
        box = nonce + self._ciphers[self.primary_id].encrypt(nonce, plain, _bound_to(endpoint_id, name))
        return f"busbar1:{self.primary_id}:{base64.urlsafe_b64encode(box).decode()}"

    def open(self, sealed: str, *, endpoint_id: str, name: str) -> Secret:
        """Decrypt what `seal` made for the same endpoint and name; raises Undecipherable, which shows no value."""
        key_id, box = _parts(sealed, name)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Undecipherable(
                f"The secret {name} was encrypted with the key {key_id}, which is not in the key ring."
            )
        try:
            plain = cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _bound_to(endpoint_id, name))
        except InvalidTag as error:
            raise Undecipherable(f"The stored secret {name} was altered, or belongs to another endpoint.") from error
        return Secret(plain.decode())

    def is_current(self, sealed: str) -> bool:
        """Whether `sealed` was encrypted with the primary key."""
        return sealed.startswith(f"busbar1:{self.primary_id}:")

    def reseal(self, sealed: str, *, endpoint_id: str, name: str) -> str:
        """The same value under the primary key. Raises Undecipherable."""
        return self.seal(self.open(sealed, endpoint_id=endpoint_id, name=name), endpoint_id=endpoint_id, name=name)


def load_key_ring(*, home: Path, environ: Mapping[str, str], in_use: bool = False) -> KeyRing:
    """The ring of this installation, made if there is none yet.

    `BUSBAR_SECRET_KEY` holds one key of 32 bytes in base64, or several with commas between them, the newest first.
    Keys in `home/secret.key`, one a line, follow them. With neither, the file is made with one new key, mode 0600;
    of several processes that start at once, all get the same one. `in_use` says that the database holds what an
    earlier key has encrypted: then a new one would help nobody, and none is made.

    Raises:
        LostSecretKey: there is no key, and one is in use.
        BadSecretKey: a key is malformed, or others can read the file.
    """
    ring = find_key_ring(home=home, environ=environ)
    if ring is not None:
        return ring
    path = home / KEY_FILE
    if in_use:
        raise LostSecretKey(
            f"The key that this database's secrets are encrypted with is not there: restore {path} from a backup, or "
            f"set {KEY_VARIABLE}; docs/how-to/operate.md says what to do if it is lost for good."
        )
    _create_key_file(path)
    return KeyRing(*_read_key_file(path))


def find_key_ring(*, home: Path, environ: Mapping[str, str]) -> KeyRing | None:
    """The ring of this installation, or None when there is no key yet; makes nothing. Raises BadSecretKey."""
    path = home / KEY_FILE
    listed = [part for part in environ.get(KEY_VARIABLE, "").split(",") if part.strip()]
    keys = [_decode_key(part, where=KEY_VARIABLE) for part in listed]
    if path.exists():
        keys += _read_key_file(path)
    return KeyRing(*dict.fromkeys(keys)) if keys else None


def _create_key_file(path: Path) -> None:
    """Write a complete file under another name, then link it: no reader ever sees half a key, and the first wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process made the key in the meantime: that one counts
        _sync_folder(path.parent)
    finally:
        draft.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_key_file(path: Path) -> list[bytes]:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise BadSecretKey(f"{path} can be read by others (mode {mode:o}). Run: chmod 600 {path}")
    lines = [line for line in path.read_text("ascii", errors="replace").splitlines() if line.strip()]
    if not lines:
        raise BadSecretKey(f"{path} is empty. Restore it from a backup: without it stored secrets cannot be read.")
    return [_decode_key(line, where=str(path)) for line in lines]


def _decode_key(text: str, *, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:  # also for characters beyond ASCII
        raise BadSecretKey(f"{where} does not hold base64.") from error
    if len(key) != KEY_BYTES:
        raise BadSecretKey(f"{where} must hold {KEY_BYTES} bytes in base64, not {len(key)}.")
    return key


def key_id_of(sealed: str) -> str:
    """The id of the key that made a sealed value; "" for a text that is none."""
    match = _SEALED.fullmatch(sealed)
    return match["key_id"] if match else ""


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"busbar secret key id" + key).hexdigest()[:16]


def _bound_to(endpoint_id: str, name: str) -> bytes:
    """The associated data; the lengths keep ("a", "bc") apart from ("ab", "c")."""
    parts = (endpoint_id.encode(), name.encode())
    return b"busbar1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _parts(sealed: str, name: str) -> tuple[str, bytes]:
    match = _SEALED.fullmatch(sealed)
    if match is None:
        raise Undecipherable(f"The stored secret {name} is not in the form that Busbar writes.")
    try:
        box = base64.urlsafe_b64decode(match["box"])
    except binascii.Error as error:
        raise Undecipherable(f"The stored secret {name} is cut off or altered.") from error
    if len(box) < NONCE_BYTES + 16:
        raise Undecipherable(f"The stored secret {name} is cut off.")
    return match["key_id"], box


class KeyRingBox:
    """The key ring in the form that identity asks for: seals bytes for a context instead of an endpoint's secret."""

    def __init__(self, key_ring: KeyRing) -> None:
        self._key_ring = key_ring

    def encrypt(self, plain: bytes, *, context: str) -> str:
        """Seal `plain` so that only `decrypt` with the same context opens it."""
        text = Secret(base64.b64encode(plain).decode())
        return self._key_ring.seal(text, endpoint_id="", name=context)

    def is_current(self, sealed: str) -> bool:
        """Whether what `encrypt` made was sealed with the primary key."""
        return self._key_ring.is_current(sealed)

    def decrypt(self, sealed: str, *, context: str) -> bytes:
        """Open what `encrypt` made.

        Raises:
            Undecipherable: it was altered, belongs to another context, or its key is gone.
        """
        return base64.b64decode(self._key_ring.open(sealed, endpoint_id="", name=context).reveal())
