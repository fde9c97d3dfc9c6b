"""The embedded PostgreSQL with real processes, which are killed in every order; as root also on behalf of another user.

As root each check runs twice: for root, whose server runs as another user, and for the unprivileged user `nobody`.
"""

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from busbar.db.tests.people import App, Person, ask, assert_no_server, assert_row_is_there, ended, write_row


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
