"""Where the embedded PostgreSQL lives and how it is set: its folders, its user, its options."""

import contextlib
import hashlib
import os
import pwd
import re
import stat
import subprocess
from pathlib import Path

import msgspec

from busbar.db.binaries import find_binaries, major_version
from busbar.errors import Unavailable

CONNECTIONS_MAX = 100
SOCKET_PATH_BYTES_MAX = 103
"""104 bytes with the final NUL on macOS, 108 on Linux."""
SERVER_USERS = ("busbar", "postgres", "nobody")
"""PostgreSQL refuses to run as root; the first of these that exists runs it then."""

INITDB_OPTIONS = ("-U", "busbar", "--auth-local=trust", "--auth-host=reject", "-E", "UTF8", "--no-instructions")
"""Trust is safe here: the only way in is a socket in a folder that is closed to all other users."""
PLAIN_LOCALE = ("--locale=C",)
UNICODE_LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
"""Since version 17: sorts by code point as C does, needs nothing of the system, and knows the case of all letters."""
SERVER_OPTIONS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "cluster_name": "busbar",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    # Compiling a plan costs more than our short queries take, and random reads are cheap on today's disks.
    "jit": "off",
    "random_page_cost": "1.1",
    # The log names what went wrong and keeps the business data of the statement to itself; the guard limits its size.
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
UNSAFE_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class HomeUnreachable(Unavailable):
    """The server's user cannot work in the data folder."""


class NoServerUser(Unavailable):
    """We are root, and there is nobody else to run the server."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard is told on its command line."""

    binaries: str
    """Folder of `postgres` and `initdb`."""
    folder: str
    """Holds `data`, `server.log`, `guard.lock` and usually the sockets."""
    sockets: str
    """Folder of the Unix socket, open to the server's user and root only."""
    options: tuple[str, ...]
    initdb_options: tuple[str, ...]
    uid: int | None
    gid: int | None
    """Whom to become before anything else; None: stay who we are."""


def prepare(home: Path, *, fast_and_unsafe: bool) -> Cluster:
    """Make the folders, choose the user, the binaries and the socket's place.

    Raises HomeUnreachable, NoServerUser and NoServerBinaries.
    """
    folder = home.expanduser().resolve() / "postgres"
    try:
        make_open_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        user = server_user(folder) if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, *user, follow_symlinks=False)
    except OSError as reason:
        raise HomeUnreachable(
            f"Cannot make the data folder {folder} ({reason.strerror}): "
            "set BUSBAR_HOME to a folder that can be written."
        ) from None
    if not can_work_in(folder, user=user):
        name = user_name(user[0] if user else os.geteuid())
        raise HomeUnreachable(
            f"The user {name}, who runs PostgreSQL, cannot reach {folder}: "
            "set BUSBAR_HOME to a folder that all users may pass through, such as /var/lib/busbar."
        )
    sockets = socket_folder(folder, user=user)
    options = {"unix_socket_directories": str(sockets)} | SERVER_OPTIONS | (UNSAFE_OPTIONS if fast_and_unsafe else {})
    binaries = find_binaries(folder / "data", user=user)
    locale = UNICODE_LOCALE if (major_version(binaries) or 0) >= 17 else PLAIN_LOCALE
    uid, gid = user or (None, None)
    return Cluster(
        binaries=str(binaries),
        folder=str(folder),
        sockets=str(sockets),
        options=tuple(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        initdb_options=(*INITDB_OPTIONS, *locale, *(("--no-sync",) if fast_and_unsafe else ())),
        uid=uid,
        gid=gid,
    )


def make_open_folders(folder: Path) -> None:
    """Make a folder and its missing parents; the server's user may pass through those that root makes here."""
    for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            path.chmod(0o755)


def server_user(cluster: Path) -> tuple[int, int]:
    """Who runs the server when we are root: the owner of an existing cluster, else the first of SERVER_USERS."""
    owner = cluster.stat()
    if owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in SERVER_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise NoServerUser(f"PostgreSQL does not run as root, and there is no user {', '.join(SERVER_USERS)}: add one.")


def can_work_in(folder: Path, *, user: tuple[int, int] | None) -> bool:
    """Whether `user` gets into the folder and may write there, asked of the system as that user."""
    uid, gid = user or (None, None)
    question = ["/bin/sh", "-c", 'test -w "$1" && test -x "$1"', "sh", str(folder)]
    return subprocess.call(question, user=uid, group=gid, extra_groups=[] if user else None, cwd="/") == 0


def socket_folder(cluster: Path, *, user: tuple[int, int] | None) -> Path:
    """The folder of the server's socket, closed to other users: in the cluster, or in /tmp if that path is too long."""
    folder = cluster / "run"
    # The setting is a list, in which commas part and quotes quote.
    if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX or re.search(r'[,"\\]', str(folder)):
        folder = Path("/tmp", f"bb-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]}")  # noqa: S108 - its owner and mode are checked below
    owner = user or (os.geteuid(), os.getegid())
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.lstat().st_uid == 0 != owner[0]:  # root made it: we, just now, or another process of ours
        os.chown(folder, *owner, follow_symlinks=False)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != owner[0] or facts.st_mode & 0o077:
        raise HomeUnreachable(
            f"{folder} must be a folder of the user {user_name(owner[0])} alone: "
            "remove it, or set BUSBAR_HOME to another folder."
        )
    return folder


def user_name(uid: int) -> str:
    """The name of a user, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
