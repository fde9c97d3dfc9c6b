"""The PostgreSQL that comes along: started, guarded and stopped by Busbar itself, on Linux and macOS.

Two processes watch each other. The guard (`guard.py`) owns the server: it restarts a dead one, and ends it when the
application is gone. A thread of the application restarts a dead guard, which then adopts the server.
"""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import logging
import os
import pwd
import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from busbar.db.binaries import find_binaries
from busbar.errors import Conflict, Unavailable
from busbar.kit.backoff import delay_s

START_S_MAX = 180.0
STOP_S_MAX = 40.0
CONNECTIONS_MAX = 100
SOCKET_PATH_BYTES_MAX = 103
"""104 bytes with the final NUL on macOS, 108 on Linux."""
SERVER_USERS = ("busbar", "postgres", "nobody")
"""PostgreSQL refuses to run as root; the first of these that exists runs it then."""

INITDB_OPTIONS = (
    "-U",
    "busbar",
    "--auth-local=trust",
    "--auth-host=reject",
    "-E",
    "UTF8",
    "--locale=C",
    "--no-instructions",
)
"""Trust is safe here: the only way in is a socket in a folder that is closed to all other users."""
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
    "timezone": "UTC",
    "log_timezone": "UTC",
}
UNSAFE_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

logger = logging.getLogger(__name__)


class ServerDidNotStart(Unavailable):
    """The embedded PostgreSQL cannot be started; the detail says why."""


class HomeUnreachable(ServerDidNotStart):
    """The server's user cannot work in the data folder."""


class DatabaseExists(Conflict):
    """A database of this name is there already."""


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard is told on its command line."""

    binaries: str
    cluster: str
    sockets: str
    options: tuple[str, ...]
    initdb_options: tuple[str, ...]
    uid: int | None
    gid: int | None


async def start_embedded(home: Path, *, fast_and_unsafe: bool = False) -> "EmbeddedServer":
    """Start the server of `home` (its data is in `home/postgres`), or adopt the one that runs there already.

    Makes the folder, the cluster and the database `busbar` where they are missing. `fast_and_unsafe` gives up all
    durability and is for tests only. Raises ServerDidNotStart, HomeUnreachable or NoServerBinaries, each with one
    sentence for the user.
    """
    settings = await asyncio.to_thread(prepare, home, fast_and_unsafe=fast_and_unsafe)
    server = EmbeddedServer(settings)
    try:
        async with asyncio.timeout(START_S_MAX):
            await server.ready()
        await server._create_if_missing("busbar")
    except TimeoutError:
        await server.stop()
        raise ServerDidNotStart(
            f"PostgreSQL was not ready after {START_S_MAX:.0f} s; its log is {settings.cluster}/server.log."
        ) from None
    except BaseException:
        await server.stop()
        raise
    return server


class EmbeddedServer:
    """A running embedded PostgreSQL; `start_embedded` makes one."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._owner = False
        self._stopping = threading.Event()
        self._spawning = threading.Lock()
        self._guard = self._spawn_guard()
        # A thread, not a task: it must go on when the loop is busy, and when the loop has ended without `stop`.
        self._watcher = threading.Thread(target=self._watch_guard, name="embedded-postgres", daemon=True)
        self._watcher.start()

    @property
    def dsn(self) -> str:
        """Address of the database `busbar`, for asyncpg."""
        return self.dsn_of("busbar")

    @property
    def owner(self) -> bool:
        """Whether the server is ours and ends with us; an adopter becomes the owner when the owner goes."""
        return self._owner

    def dsn_of(self, database: str) -> str:
        """Address of a database of this server, for asyncpg."""
        return f"postgresql://busbar@/{quote(database)}?host={quote(self._settings.sockets, safe='/')}&port=5432"

    async def ready(self) -> None:
        """Return when the server takes connections. Raises ServerDidNotStart."""
        await asyncio.wrap_future(self._ready)

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of `template` if given; returns its address. Raises DatabaseExists."""
        copy = f" TEMPLATE {identifier(template)}" if template else ""
        try:
            await self._administer(f"CREATE DATABASE {identifier(name)}{copy}")
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):  # the latter: two at the same moment
            raise DatabaseExists(f"The database {name} exists already.") from None
        return self.dsn_of(name)

    async def _create_if_missing(self, name: str) -> None:
        if not await self._administer("SELECT 1 FROM pg_database WHERE datname = $1", name):
            with contextlib.suppress(DatabaseExists):  # another process came between
                await self.create_database(name)

    async def drop_database(self, name: str) -> None:
        """Remove a database if it is there, and end the connections to it."""
        await self._administer(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")

    async def stop(self) -> None:
        """Let go of the server; it is shut down if we are its owner. May be called again."""
        await asyncio.to_thread(self._stop_guard)

    async def _administer(self, statement: str, *arguments: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn_of("postgres"))
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    def _spawn_guard(self) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", Path(__file__).with_name("guard.py"), msgspec.json.encode(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=bare_environment(),
            # A Ctrl-C at the terminal is for the application, which may want its database to the last moment.
            start_new_session=True,
        )

    def _watch_guard(self) -> None:
        deaths = 0
        while True:
            assert self._guard.stdout is not None
            for line in self._guard.stdout:
                deaths = 0 if self._hear(line.rstrip("\n")) else deaths
            self._guard.wait()
            self._owner = False
            if not self._ready.done():
                self._ready.set_exception(ServerDidNotStart("The guard of the embedded PostgreSQL died at its start."))
                return
            deaths += 1
            if self._stopping.wait(delay_s(deaths, first_s=0.1, max_s=5.0)):
                return
            with self._spawning:
                if self._stopping.is_set():
                    return
                logger.warning("The guard of the embedded PostgreSQL died; a new one takes over.")
                self._guard = self._spawn_guard()

    def _hear(self, line: str) -> bool:
        """Take a message of the guard; returns whether it is good news."""
        word, _, rest = line.partition(" ")
        if word == "failed":
            if not self._ready.done():
                self._ready.set_exception(ServerDidNotStart(rest))
            logger.error("The embedded PostgreSQL cannot be started: %s", rest)
            return False
        if word == "guarding" and self._owner:
            logger.warning("The embedded PostgreSQL died and was started again.")
        self._owner = word == "guarding"
        if not self._ready.done():
            self._ready.set_result(None)
        return True

    def _stop_guard(self) -> None:
        with self._spawning:
            self._stopping.set()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
        self._guard.wait(timeout=STOP_S_MAX)
        self._watcher.join()


def prepare(home: Path, *, fast_and_unsafe: bool) -> GuardSettings:
    """Make the folders, choose the user, the binaries and the socket's place. Raises HomeUnreachable."""
    cluster = home.expanduser().resolve() / "postgres"
    try:
        make_open_folders(cluster.parent)
        cluster.mkdir(mode=0o700, exist_ok=True)
        user = server_user(cluster) if os.geteuid() == 0 else None
    except OSError as reason:
        raise HomeUnreachable(
            f"Cannot make the data folder {cluster} ({reason.strerror}): "
            "set BUSBAR_HOME to a folder that can be written."
        ) from None
    if user is not None:
        os.chown(cluster, *user)
    if not can_work_in(cluster, user=user):
        name = user_name(user[0] if user else os.geteuid())
        raise HomeUnreachable(
            f"The user {name}, who runs PostgreSQL, cannot reach {cluster}: "
            "set BUSBAR_HOME to a folder that all users may pass through, such as /var/lib/busbar."
        )
    sockets = socket_folder(cluster, user=user)
    options = {"unix_socket_directories": str(sockets)} | SERVER_OPTIONS | (UNSAFE_OPTIONS if fast_and_unsafe else {})
    uid, gid = user or (None, None)
    return GuardSettings(
        binaries=str(find_binaries(cluster / "data", user=user)),
        cluster=str(cluster),
        sockets=str(sockets),
        options=tuple(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        initdb_options=(*INITDB_OPTIONS, "--no-sync") if fast_and_unsafe else INITDB_OPTIONS,
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
    raise ServerDidNotStart(
        f"PostgreSQL does not run as root, and there is no user {', '.join(SERVER_USERS)}: add one."
    )


def can_work_in(folder: Path, *, user: tuple[int, int] | None) -> bool:
    """Whether `user` gets into the folder and may write there, asked of the system as that user."""
    uid, gid = user or (None, None)
    question = ["/bin/sh", "-c", 'test -w "$1" && test -x "$1"', "sh", str(folder)]
    return subprocess.call(question, user=uid, group=gid, extra_groups=[] if user else None, cwd="/") == 0  # noqa: S603


def socket_folder(cluster: Path, *, user: tuple[int, int] | None) -> Path:
    """The folder of the server's socket, closed to other users: in the cluster, or in /tmp if that path is too long."""
    folder = cluster / "run"
    # The setting is a list, in which commas part and quotes quote.
    if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX or re.search(r'[,"\\]', str(folder)):
        folder = Path("/tmp", f"bb-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]}")  # noqa: S108
    owner = user or (os.geteuid(), os.getegid())
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, *owner)
    facts = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or facts.st_uid != owner[0] or facts.st_mode & 0o077:
        raise HomeUnreachable(
            f"{folder} must be a folder of the user {user_name(owner[0])} alone: "
            "remove it, or set BUSBAR_HOME to another folder."
        )
    return folder


def bare_environment() -> dict[str, str]:
    """What guard and server see of the environment: no PG variables that would steer them, no secrets of ours."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def user_name(uid: int) -> str:
    """The name of a user, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def identifier(name: str) -> str:
    """A database name, checked and quoted. Raises ValueError."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} is no database name: a letter, then letters, digits and _, at most 63 in all")
    return f'"{name}"'
