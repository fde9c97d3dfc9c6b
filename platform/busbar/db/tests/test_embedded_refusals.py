"""What the embedded PostgreSQL refuses, which binaries it takes, and the databases that tests make in it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from busbar.db.binaries import NoServerBinaries, find_binaries
from busbar.db.cluster import HomeUnreachable
from busbar.db.embedded import DatabaseExists, EmbeddedServer, ServerDidNotStart, start_embedded
from busbar.db.tests.people import (
    IS_ROOT,
    Person,
    ask,
    assert_row_is_there,
    nobody_guards,
    open_folder,
    write_row,
)

only_root = pytest.mark.skipif(not IS_ROOT, reason="what root must do is tried when the tests run as root")


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
