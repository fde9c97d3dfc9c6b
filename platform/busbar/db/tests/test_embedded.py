"""The embedded PostgreSQL with real processes, which are killed in every order; as root also on behalf of another user.

As root each check runs twice: for root, whose server runs as another user, and for the unprivileged user `nobody`.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

import busbar
from busbar.db.binaries import NoServerBinaries, find_binaries
from busbar.db.cluster import HomeUnreachable
from busbar.db.embedded import DatabaseExists, EmbeddedServer, ServerDidNotStart, start_embedded
from busbar.kit.ids import uuid7

PATIENCE_S = 30
PATHS = os.pathsep.join([str(Path(busbar.__file__).parents[1]), str(Path(asyncpg.__file__).parents[1])])
IS_ROOT = os.geteuid() == 0
ORDINARY, ROOT = "an ordinary user", "root"
only_root = pytest.mark.skipif(not IS_ROOT, reason="what root must do is tried when the tests run as root")


class App:
    """A running `embedded_app.py`: what it said at its start, and what it says from now on."""

    def __init__(self, process: asyncio.subprocess.Process, first: dict[str, Any]) -> None:
        self.process = process
        self.first = first

    @property
    def dsn(self) -> str:
        return self.first["dsn"]

    async def next(self) -> dict[str, Any]:
        return await said_by(self.process)

    async def stop(self) -> None:
        self.process.stdin.write(b"\n")
        while "stopped" not in await self.next():
            pass
        assert await self.process.wait() == 0

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


class Person:
    """Someone who runs applications on one home folder."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.uid = pwd.getpwnam("nobody").pw_uid if IS_ROOT and name == ORDINARY else None
        self.python = python_for_everyone() if self.uid is not None else sys.executable
        self.apps: list[App] = []

    async def start(self, *arguments: str, home: Path | None = None) -> App:
        process = await asyncio.create_subprocess_exec(
            *(self.python, "-m", "busbar.db.tests.embedded_app", str(home or self.home), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            # The PG variables would lead every client and server astray that listened to them.
            env=os.environ | {"PYTHONPATH": PATHS, "PYTHONDONTWRITEBYTECODE": "1", "PGPORT": "9", "PGDATA": "/nowhere"},
            user=self.uid,
            group=pwd.getpwnam("nobody").pw_gid if self.uid is not None else None,
            extra_groups=[] if self.uid is not None else None,
        )
        app = App(process, await said_by(process))
        self.apps.append(app)
        return app

    def postmaster(self) -> int:
        return int((self.home / "postgres/data/postmaster.pid").read_text().split()[0])


async def said_by(process: asyncio.subprocess.Process) -> dict[str, Any]:
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
    assert line, f"the application ended with exit code {await process.wait()}"
    return json.loads(line)


@functools.cache
def python_for_everyone() -> str:
    """A Python that `nobody` can run with Busbar: neither may lie below root's own folder."""
    same = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/local/bin/{same}", f"/usr/bin/{same}"):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            command = [python, "-c", "import busbar.db.embedded"]
            if subprocess.call(command, user="nobody", env={"PYTHONPATH": PATHS}, stderr=subprocess.DEVNULL) == 0:
                return python
    pytest.skip(f"as root, and the user nobody can run no {same} with this copy of Busbar: put both outside /root")


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may pass through; pytest's own are closed, which is what E2 is about."""
    folder = Path(tempfile.mkdtemp(prefix="busbar-embedded-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def at_work(name: str, folder: Path) -> AsyncIterator[Person]:
    """Someone who works with the home in this folder; none of their processes is left afterwards."""
    someone = Person(name, folder / "home")
    if someone.uid is not None and not someone.home.exists():
        someone.home.mkdir()
        os.chown(someone.home, someone.uid, -1)
    try:
        yield someone
    finally:
        for app in someone.apps:
            if app.process.returncode is None:
                await app.kill()
        if (someone.home / "postgres/guard.lock").exists():
            await nobody_guards(someone.home)


@pytest.fixture(params=[ROOT, ORDINARY] if IS_ROOT else [ORDINARY])
async def newcomer(request: pytest.FixtureRequest) -> AsyncIterator[Person]:
    """Someone whose home is empty."""
    with open_folder() as folder:
        async with at_work(request.param, folder) as someone:
            yield someone


@pytest.fixture(scope="module", params=[ROOT, ORDINARY] if IS_ROOT else [ORDINARY])
async def settled(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Path]]:
    """The name and the folder of someone whose home has a cluster: one for all tests, for initdb takes a second."""
    with open_folder() as folder:
        async with at_work(request.param, folder) as someone:
            await (await someone.start()).stop()
        yield request.param, folder


@pytest.fixture
async def person(settled: tuple[str, Path]) -> AsyncIterator[Person]:
    """Someone whose home has a cluster, with no server running."""
    async with at_work(*settled) as someone:
        yield someone


async def nobody_guards(home: Path) -> None:
    """Wait until no guard is left: each holds the lock, or will as soon as the one before it lets go."""
    with (home / "postgres/guard.lock").open() as lock:
        await asyncio.wait_for(asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX), PATIENCE_S)


async def ended(pid: int) -> None:
    """Wait for the end of any process; a zombie has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            seen, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], PATIENCE_S)
            assert seen, f"process {pid} is still there after {PATIENCE_S} s"
        finally:
            os.close(descriptor)


async def ask(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def write_row(dsn: str) -> str:
    """Commit a row; returns what is in it."""
    value = str(uuid7())
    await ask(dsn, "CREATE TABLE IF NOT EXISTS reading (value text)")
    await ask(dsn, f"INSERT INTO reading VALUES ('{value}')")
    return value


async def assert_row_is_there(dsn: str, row: str) -> None:
    assert await ask(dsn, f"SELECT count(*) FROM reading WHERE value = '{row}'") == 1


async def assert_no_server(dsn: str) -> None:
    with pytest.raises(OSError, match=r"refused|No such file"):
        await asyncpg.connect(dsn)


async def kill_app_and_guard(app: App) -> None:
    """Leave an orphan: the guard is frozen first, so that it cannot see its application go."""
    os.kill(app.first["guard"], signal.SIGSTOP)
    await app.kill()
    os.kill(app.first["guard"], signal.SIGKILL)
    await ended(app.first["guard"])


class TestLifeOfTheServer:
    async def test_starts_on_an_empty_folder_stops_and_keeps_the_data(self, newcomer: Person) -> None:
        app = await newcomer.start("--safe")
        assert app.first["owner"]
        row = await write_row(app.dsn)
        expected = {"listen_addresses": "", "jit": "off", "fsync": "on", "synchronous_commit": "on"}
        assert {name: await ask(app.dsn, f"SHOW {name}") for name in expected} == expected
        postmaster = newcomer.postmaster()
        await app.stop()
        await ended(postmaster)
        await assert_no_server(app.dsn)

        app = await newcomer.start("--safe")
        await assert_row_is_there(app.dsn, row)

    async def test_a_second_process_adopts_the_server_and_leaves_it_running(self, person: Person) -> None:
        owner = await person.start()
        adopter = await person.start()
        assert (owner.first["owner"], adopter.first["owner"]) == (True, False)
        assert adopter.dsn == owner.dsn
        await adopter.stop()
        assert await ask(owner.dsn, "SELECT 1") == 1

    async def test_an_adopter_takes_over_when_the_owner_goes(self, person: Person) -> None:
        owner = await person.start()
        adopter = await person.start()
        row = await write_row(owner.dsn)
        await owner.kill()
        assert await adopter.next() == {"log": "This process guards the embedded PostgreSQL now."}
        await assert_row_is_there(adopter.dsn, row)

    async def test_two_processes_may_start_at_once_on_an_empty_folder(self, newcomer: Person) -> None:
        apps = await asyncio.gather(newcomer.start(), newcomer.start())
        assert sorted(app.first["owner"] for app in apps) == [False, True]
        started = [await ask(app.dsn, "SELECT pg_postmaster_start_time()") for app in apps]
        assert started[0] == started[1]


class TestKills:
    async def test_no_server_outlives_a_killed_application(self, person: Person) -> None:
        app = await person.start()
        postmaster = person.postmaster()
        await app.kill()
        await ended(postmaster)
        await assert_no_server(app.dsn)

    async def test_a_killed_server_comes_back_with_every_committed_row(self, person: Person) -> None:
        app = await person.start("--safe")
        row = await write_row(app.dsn)
        os.kill(person.postmaster(), signal.SIGKILL)
        assert await app.next() == {"log": "The embedded PostgreSQL died and was started again."}
        await assert_row_is_there(app.dsn, row)

    async def test_no_signal_but_kill_ends_guard_or_server_before_the_application(self, person: Person) -> None:
        app = await person.start("--safe")
        # What a Ctrl-C at the terminal signals is the application's process group.
        assert os.getpgid(app.process.pid) not in (os.getpgid(app.first["guard"]), os.getpgid(person.postmaster()))
        for request in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(app.first["guard"], request)
        os.kill(person.postmaster(), signal.SIGTERM)
        assert await app.next() == {"log": "The embedded PostgreSQL died and was started again."}

    async def test_a_killed_guard_is_replaced_and_the_server_goes_on(self, person: Person) -> None:
        app = await person.start()
        postmaster = person.postmaster()
        os.kill(app.first["guard"], signal.SIGKILL)
        assert await app.next() == {"log": "The guard of the embedded PostgreSQL died; a new one takes over."}
        assert await app.next() == {"log": "This process guards the embedded PostgreSQL now."}
        assert person.postmaster() == postmaster
        await app.kill()
        await ended(postmaster)

    async def test_an_orphan_is_adopted_and_guarded_again(self, person: Person) -> None:
        app = await person.start("--safe")
        row = await write_row(app.dsn)
        orphan = person.postmaster()
        await kill_app_and_guard(app)

        heir = await person.start("--safe")
        assert heir.first["owner"]
        assert person.postmaster() == orphan
        await assert_row_is_there(heir.dsn, row)
        os.kill(orphan, signal.SIGKILL)
        assert await heir.next() == {"log": "The embedded PostgreSQL died and was started again."}
        await assert_row_is_there(heir.dsn, row)
        successor = person.postmaster()
        await heir.kill()
        await ended(successor)

    async def test_an_orphan_ends_with_the_application_that_adopted_it(self, person: Person) -> None:
        app = await person.start()
        orphan = person.postmaster()
        await kill_app_and_guard(app)
        heir = await person.start()
        await heir.stop()
        await ended(orphan)
        await assert_no_server(app.dsn)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's child subreaper to keep a zombie")
    async def test_a_zombie_postmaster_does_not_bar_the_next_start(self, person: Person) -> None:
        become_reaper = functools.partial(ctypes.CDLL(None, use_errno=True).prctl, 36)  # PR_SET_CHILD_SUBREAPER
        assert become_reaper(1) == 0
        orphans: list[int] = []
        try:
            app = await person.start("--safe")
            row = await write_row(app.dsn)
            postmaster = person.postmaster()
            orphans += [app.first["guard"], *(child.pid for child in psutil.Process(postmaster).children()), postmaster]
            await kill_app_and_guard(app)
            os.kill(postmaster, signal.SIGKILL)
            await ended(postmaster)
            assert Path(f"/proc/{postmaster}/stat").read_text().split()[2] == "Z"
            assert person.postmaster() == postmaster

            app = await person.start("--safe")
            await assert_row_is_there(app.dsn, row)
            assert person.postmaster() != postmaster
        finally:
            become_reaper(0)
            for orphan in orphans:
                with contextlib.suppress(ChildProcessError):
                    await asyncio.to_thread(os.waitpid, orphan, 0)


class TestRefusals:
    async def test_a_path_too_long_for_a_socket_leads_to_a_folder_in_tmp_that_must_be_closed(self) -> None:
        with open_folder() as folder:
            home = folder / ("d" * 120)
            server = await start_embedded(home, fast_and_unsafe=True)
            assert await ask(server.dsn, "SELECT 1") == 1
            await server.stop()
            sockets = Path(server.dsn.partition("host=")[2].partition("&")[0])
            assert sockets.stat().st_mode & 0o777 == 0o700
            sockets.chmod(0o777)  # as somebody else may have made it, to listen where we connect
            try:
                with pytest.raises(HomeUnreachable, match=f"{sockets} must be a folder of the user .* alone"):
                    await start_embedded(home, fast_and_unsafe=True)
            finally:
                sockets.rmdir()

    async def test_a_server_that_cannot_start_is_reported_with_its_own_words(self) -> None:
        with open_folder() as home:
            await (await start_embedded(home, fast_and_unsafe=True)).stop()
            with (home / "postgres/data/postgresql.conf").open("a") as settings:
                settings.write("work_mem = 'plenty'\n")
            with pytest.raises(ServerDidNotStart, match=r"did not start: FATAL: .*postgresql\.conf.*server\.log"):
                await start_embedded(home, fast_and_unsafe=True)

    async def test_a_home_below_a_file_is_refused_with_the_cure(self) -> None:
        with open_folder() as folder:
            (folder / "file").write_text("")
            with pytest.raises(HomeUnreachable, match=r"Not a directory.*set BUSBAR_HOME"):
                await start_embedded(folder / "file" / "home")

    async def test_a_folder_that_cannot_be_written_is_refused_with_the_cure(self, newcomer: Person) -> None:
        with open_folder() as folder:
            folder.chmod(0o700 if IS_ROOT else 0o500)
            app = await newcomer.start(home=folder / "home")
            folder.chmod(0o700)
        assert app.first["error"] == "HomeUnreachable"
        assert "set BUSBAR_HOME to" in app.first["detail"]
        assert str(folder / "home/postgres") in app.first["detail"]

    @only_root
    async def test_an_install_that_the_servers_user_cannot_reach_is_copied(self, monkeypatch: Any) -> None:
        install = find_binaries(Path("/nonexistent"), user=None).parent
        with open_folder() as closed, open_folder() as home:
            closed.chmod(0o700)
            for part in install.parent.parent.glob(f"{install.parent.name}*"):
                (closed / part.name).symlink_to(part)
            monkeypatch.setenv("BUSBAR_PG_BIN", str(closed / install.parent.name / install.name / "bin"))
            server = await start_embedded(home, fast_and_unsafe=True)
            try:
                assert await ask(server.dsn, "SELECT 1") == 1
            finally:
                await server.stop()
            assert closed.stat().st_mode & 0o777 == 0o700
            copies = [path for path in home.iterdir() if path.name.startswith("postgres-install-")]
            assert [path.stat().st_uid for path in copies] == [0]


class TestBinaries:
    def test_data_of_a_version_that_is_not_there_is_refused_with_the_cure(self, tmp_path: Path) -> None:
        (tmp_path / "PG_VERSION").write_text("9\n")
        with pytest.raises(NoServerBinaries, match=r"needs PostgreSQL 9, and there is only .* set BUSBAR_PG_BIN"):
            find_binaries(tmp_path, user=None)

    def test_the_chosen_folder_wins(self, tmp_path: Path, monkeypatch: Any) -> None:
        make_fake_install(tmp_path, version="15.18 (Debian)")
        monkeypatch.setenv("BUSBAR_PG_BIN", str(tmp_path))
        assert find_binaries(tmp_path / "data", user=None) == tmp_path

    def test_a_chosen_folder_without_postgresql_is_refused(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("BUSBAR_PG_BIN", str(tmp_path))
        with pytest.raises(NoServerBinaries, match=f"BUSBAR_PG_BIN names {tmp_path}"):
            find_binaries(tmp_path / "data", user=None)

    def test_the_version_of_the_data_decides_between_installs(self, tmp_path: Path, monkeypatch: Any) -> None:
        make_fake_install(tmp_path, version="9.6.24")
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        data = tmp_path / "data"
        assert find_binaries(data, user=None) != tmp_path
        data.mkdir()
        (data / "PG_VERSION").write_text("9.6\n")
        assert find_binaries(data, user=None) == tmp_path


def make_fake_install(folder: Path, *, version: str) -> None:
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    with open_folder() as home:
        server = await start_embedded(home, fast_and_unsafe=True)
        yield server
        await server.stop()


class TestDatabases:
    async def test_a_database_is_made_from_a_template(self, server: EmbeddedServer) -> None:
        template = await server.create_database("template_of_tests")
        row = await write_row(template)
        copy = await server.create_database("copy_of_tests", template="template_of_tests")
        await assert_row_is_there(copy, row)

    async def test_a_database_cannot_be_made_twice_unless_dropped(self, server: EmbeddedServer) -> None:
        await server.create_database("once")
        with pytest.raises(DatabaseExists, match="once"):
            await server.create_database("once")
        await server.drop_database("once")
        await server.create_database("once")

    async def test_a_name_that_is_none_is_refused(self, server: EmbeddedServer) -> None:
        for name in ('a"; DROP DATABASE busbar', "", "Upper", "x" * 64):
            with pytest.raises(ValueError, match="is no database name"):
                await server.create_database(name)

    async def test_stopping_twice_is_harmless(self) -> None:
        with open_folder() as home:
            server = await start_embedded(home, fast_and_unsafe=True)
            await server.stop()
            await server.stop()

    async def test_a_cancelled_start_leaves_nothing_behind(self) -> None:
        with open_folder() as home:
            start = asyncio.create_task(start_embedded(home, fast_and_unsafe=True))
            while not (home / "postgres/guard.lock").exists():
                await asyncio.sleep(0)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            await nobody_guards(home)
