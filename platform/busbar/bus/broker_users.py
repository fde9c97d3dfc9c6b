"""Who may do what at the broker: RabbitMQ users with hashed passwords, as a definitions file beside the topology.

The file is imported with `rabbitmq/definitions.json` from the same folder. It holds salted hashes, no passwords.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

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
