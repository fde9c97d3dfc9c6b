"""People who run applications with an embedded PostgreSQL on their home folders: root, and somebody who is not."""

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import pwd
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import busbar
from busbar.kit.ids import uuid7

PATIENCE_S = 30
PATHS = os.pathsep.join([str(Path(busbar.__file__).parents[1]), str(Path(asyncpg.__file__).parents[1])])
IS_ROOT = os.geteuid() == 0
ORDINARY, ROOT = "an ordinary user", "root"
KINDS_OF_PEOPLE = [ROOT, ORDINARY] if IS_ROOT else [ORDINARY]


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
