"""The core's migrations make what its Piccolo tables say, and a difference would be told."""

import pytest

from busbar.db import execute
from busbar.schema.core import CORE
from busbar.schema.drift import drift, tables_sql
from busbar.schema.runner import migration_files


class TestTheMigratedSchema:
    async def test_is_the_one_that_the_tables_define(self, database: str) -> None:
        assert await drift(CORE) == []

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("alter table core.site add column colour text", "not in the tables: site colour text YES"),
            ("alter table core.site drop column name", "not migrated: site name text NO"),
            ("alter table core.ticket alter column title drop not null", "not migrated: ticket title text NO"),
            (
                "alter table core.site add constraint short check (length(name) < 9)",
                "not in the tables: site c CHECK ((length(name) < 9))",
            ),
        ],
    )
    async def test_that_differs_is_told_by_table_and_column(self, database: str, change: str, told: str) -> None:
        await execute(change)
        assert told in await drift(CORE)

    async def test_is_untouched_by_the_comparison(self, database: str) -> None:
        await execute("insert into core.site (site_id, name, created_at) values ('kept', 'Kept', now())")
        await drift(CORE)
        assert await execute("delete from core.site where site_id = 'kept'") == "DELETE 1"


class TestFirstMigration:
    def test_can_be_written_from_the_tables_with_a_line_for_each_column(self) -> None:
        lines = tables_sql(CORE.tables).splitlines()
        assert any(line.startswith("CREATE TABLE core.ticket (") for line in lines)
        assert "    ticket_id TEXT PRIMARY KEY NOT NULL," in lines

    def test_has_a_name_that_starts_with_the_module(self) -> None:
        assert [migration.name[:9] for migration in migration_files(CORE)][:2] == ["core_0001", "core_0002"]
