"""Who may do what at the broker: RabbitMQ users with salted hashes of their passwords, in its format of definitions."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from busbar.settings import BadSettings

VHOST = "busbar"
SALT_BYTES = 4
PASSWORD_LENGTH_MIN = 12


class BrokerUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user, its password, and the names (regular expressions) that it may configure, write to and read from."""

    name: str
    password: str
    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


def users_of(environment: Mapping[str, str], *, peers: Sequence[str] = ()) -> list[BrokerUser]:
    """Busbar, Camel where it has a password, and these peers, with passwords from variables or files.

    The variables are BUSBAR_BROKER_PASSWORD, CAMEL_BROKER_PASSWORD, and for a peer `mule` MULE_BROKER_PASSWORD; with
    `_FILE` appended, each names a file that holds the password.

    Raises:
        BadSettings: naming every variable that is missing or bad, or the peer that cannot be called so.
    """
    faults: list[str] = []

    def password_of(name: str, *, needed: bool = True) -> str:
        variable = f"{name.upper().replace('-', '_')}_BROKER_PASSWORD"
        password, file = environment.get(variable, "").strip(), environment.get(f"{variable}_FILE", "").strip()
        if file and not password:
            try:
                password = Path(file).expanduser().read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"the file that {variable}_FILE names cannot be read: {file}: {error}")
                return ""
        if (needed or password) and len(password) < PASSWORD_LENGTH_MIN:
            faults.append(f"{variable} (or {variable}_FILE) must give at least {PASSWORD_LENGTH_MIN} characters")
        return password

    users = [platform_user(password_of("busbar"))]
    if camel := password_of("camel", needed=False):
        users.append(camel_user(camel))
    for name in peers:
        try:
            users.append(peer_user(name, password_of(name)))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise BadSettings(f"The users of the broker cannot be written. {'; '.join(faults)}.")
    return users


def platform_user(password: str, *, name: str = "busbar") -> BrokerUser:
    """The user of Busbar's own processes: everything that is called `busbar.…`, and nothing else."""
    own = r"^busbar\..*$"
    return BrokerUser(name=name, password=password, configure=own, write=own, read=own)


def camel_user(password: str, *, name: str = "camel") -> BrokerUser:
    """The user of Camel: reads what is handed over to it, reports outcomes, and declares nothing."""
    return BrokerUser(
        name=name, password=password, configure="^$", write=r"^busbar\.outcomes$", read=r"^busbar\.camel\..*$"
    )


def peer_user(name: str, password: str) -> BrokerUser:
    """A system of somebody else: queues of its own, `busbar.peer.<name>.…`, which it may bind to the events.

    Raises:
        ValueError: the name is none that can stand in a queue's name, or is one of Busbar's own users.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) or name in ("busbar", "camel"):
        raise ValueError(f"{name!r} cannot be a peer's name: a letter, then letters, digits and -; not busbar or camel")
    own = rf"busbar\.peer\.{name}\..*"
    return BrokerUser(
        name=name, password=password, configure=f"^{own}$", write=f"^{own}$", read=rf"^({own}|busbar\.events)$"
    )


def user_definitions(users: Sequence[BrokerUser], *, vhost: str = VHOST) -> dict[str, Any]:
    """The users and their permissions in RabbitMQ's format of definitions.

    Raises:
        ValueError: a password is shorter than `PASSWORD_LENGTH_MIN`, or two users have the same name.
    """
    if len({user.name for user in users}) < len(users):
        raise ValueError("two users of the broker have the same name")
    for user in users:
        if len(user.password) < PASSWORD_LENGTH_MIN:
            raise ValueError(
                f"the password of {user.name} is too short: it must have at least {PASSWORD_LENGTH_MIN} characters"
            )
    return {
        "users": [
            {
                "name": user.name,
                "password_hash": password_hash(user.password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": list(user.tags),
            }
            for user in users
        ],
        "permissions": [
            {
                "user": user.name,
                "vhost": vhost,
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            }
            for user in users
        ],
    }


def password_hash(password: str, *, salt: bytes | None = None) -> str:
    """RabbitMQ's salted SHA-256: base64(salt + sha256(salt + password)), with a salt of 32 bits.

    Source: RabbitMQ's documentation, "Passwords", "This is the algorithm".
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
