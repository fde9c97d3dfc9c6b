"""The fixtures give each test a database of its own, with the schema in place."""

import pytest

from busbar.db import DB, execute, fetchval
from busbar.testing.database import TestServer, all_connections_home, fresh_database


class TestDatabase:
    async def test_has_the_schema_of_the_core(self, database: str) -> None:
        assert await fetchval("select count(*) from core.event") == 0

    async def test_starts_empty_whatever_another_test_left(self, postgres: TestServer) -> None:
        async with fresh_database(postgres):
            await execute("insert into core.site (site_id, name) values ('north', 'North')")
        async with fresh_database(postgres):
            assert await fetchval("select count(*) from core.site") == 0

    async def test_notices_a_connection_that_has_not_come_home(self, database: str, monkeypatch) -> None:
        monkeypatch.setattr("busbar.testing.database.IDLE_S_MAX", 0.05)
        async with DB.connection():
            with pytest.raises(AssertionError, match=r"left connections in use: {'requests': 1, 'background': 0}"):
                await all_connections_home()
