"""Migrations run once, in order, whole or not at all, and alone."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from busbar.db import execute, fetch, fetchval
from busbar.db.migrations import SchemaApp
from busbar.schema.core import CORE
from busbar.schema.runner import MigrationFault, in_order, migrate, migration_files

MakeApp = Callable[..., SchemaApp]


@pytest.fixture
def make_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeApp:
    """Makes a module from its name and the SQL of its migrations, in a package of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, *migrations: str, depends_on: tuple[str, ...] = ("core",)) -> SchemaApp:
        package = tmp_path / f"migrations_of_{name}"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        for number, sql in enumerate(migrations, start=1):
            (package / f"{name}_{number:04}_step.sql").write_text(sql, "utf-8")
        sys.modules.pop(package.name, None)
        return SchemaApp(name=name, tables=(), migrations=package.name, depends_on=depends_on)

    return make


async def steps_of(name: str) -> list[str]:
    return [row["name"] for row in await fetch("select name from core.migration where app = $1 order by name", name)]


class TestMigrate:
    async def test_runs_what_is_new_and_nothing_twice(self, database: str, make_app: MakeApp) -> None:
        counting = "create schema if not exists zoo; create table zoo.one (n int); insert into zoo.one values (1)"
        await migrate(database, [CORE, make_app("zoo", counting)])
        await migrate(database, [CORE, make_app("zoo", counting, "insert into zoo.one values (2)")])
        assert [row["n"] for row in await fetch("select n from zoo.one order by n")] == [1, 2]
        assert await steps_of("zoo") == ["zoo_0001_step", "zoo_0002_step"]

    async def test_runs_once_when_processes_start_at_the_same_moment(self, database: str, make_app: MakeApp) -> None:
        app = make_app("zoo", "create schema zoo; create table zoo.one (n int)", "insert into zoo.one values (1)")
        failed = await asyncio.gather(*(migrate(database, [CORE, app]) for _ in range(4)))
        assert failed == [{}] * 4
        assert await fetchval("select count(*) from zoo.one") == 1

    async def test_leaves_nothing_of_a_migration_that_fails_and_goes_on_with_other_modules(
        self, database: str, make_app: MakeApp
    ) -> None:
        broken = make_app("ape", "create schema ape; create table ape.one (n int); select 1 / 0")
        follower = make_app("bee", "create schema bee", depends_on=("core", "ape"))
        failed = await migrate(database, [CORE, broken, follower, make_app("cat", "create schema cat")])
        assert sorted(failed) == ["ape", "bee"]
        assert "division by zero" in str(failed["ape"])
        assert await fetchval("select to_regnamespace('ape') is null and to_regnamespace('bee') is null")
        assert await steps_of("ape") == []
        assert await steps_of("cat") == ["cat_0001_step"]

    async def test_refuses_a_file_that_was_edited_after_it_ran(self, database: str, make_app: MakeApp) -> None:
        await migrate(database, [CORE, make_app("zoo", "create schema zoo")])
        failed = await migrate(database, [CORE, make_app("zoo", "create schema zoo; create table zoo.one (n int)")])
        assert "zoo_0001_step.sql was edited after it ran" in str(failed["zoo"])

    async def test_takes_an_edited_file_of_the_core_for_fatal(self, database: str) -> None:
        await execute("update core.migration set sha256 = 'other' where name like 'core_0001%'")
        with pytest.raises(MigrationFault, match="undo that and write a new migration"):
            await migrate(database, [CORE])

    async def test_builds_an_index_without_locking_while_another_process_waits_for_its_turn(
        self, database: str, make_app: MakeApp
    ) -> None:
        loose = "-- outside of a transaction\ncreate index concurrently if not exists one_n on zoo.one (n);\n"
        app = make_app("zoo", "create schema zoo; create table zoo.one (n int)", loose)
        async with asyncio.timeout(30):
            failed = await asyncio.gather(migrate(database, [CORE, app]), migrate(database, [CORE, app]))
        assert failed == [{}, {}]
        assert await fetchval("select indisvalid from pg_index where indexrelid = 'zoo.one_n'::regclass")


class TestFiles:
    def test_with_a_name_that_is_no_migrations_are_refused_with_the_cure(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        app = make_app("zoo", "select 1")
        (tmp_path / "migrations_of_zoo" / "0002_step.sql").write_text("select 1")
        with pytest.raises(MigrationFault, match=r"0002_step.sql should be named zoo_0001_words.sql"):
            migration_files(app)

    def test_of_modules_run_after_those_they_depend_on(self, make_app: MakeApp) -> None:
        a, b = make_app("ant", depends_on=("core", "bat")), make_app("bat")
        assert [app.name for app in in_order([a, CORE, b])] == ["core", "bat", "ant"]
