"""The guards of the transaction wrapper and the pools, each by its trap (LESSONS D1 to D6, D16, D17)."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest

from busbar.db import DATABASE_TROUBLE, DB, execute, fetchval, in_transaction, on_commit, spawn, transaction, use_pool
from busbar.db.engine import ACQUIRE_TIMEOUT_S, start_pool, stop_pool
from busbar.db.transaction import TransactionMisused
from busbar.errors import Unavailable
from busbar.testing.database import all_connections_home


async def kill_backend(pid: int) -> None:
    with use_pool("background"):
        async with DB.connection() as connection:
            await connection.execute("select pg_terminate_backend($1)", pid)


@pytest.fixture
async def notes(database: str) -> None:
    await execute("create table note (n int primary key, text text)")


async def written() -> list[int]:
    async with DB.connection() as connection:
        return [row["n"] for row in await connection.fetch("select n from note order by n")]


@pytest.mark.usefixtures("notes")
class TestConnectionLost:
    """D1: one lost connection must not poison the task that used it."""

    async def test_the_task_goes_on_after_its_connection_died_inside_a_transaction(self) -> None:
        with pytest.raises(DATABASE_TROUBLE):
            async with transaction():
                await spawn(kill_backend(await fetchval("select pg_backend_pid()")), name="killer")
                await execute("insert into note values (1)")
        assert not in_transaction()
        async with transaction():
            await execute("insert into note values (2)")
        assert await written() == [2]

    async def test_a_failed_commit_gives_the_connection_back(self) -> None:
        await execute("create table line (note int references note deferrable initially deferred)")
        for _ in range(2 * DB.pools["requests"].get_max_size()):
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                async with transaction():
                    await execute("insert into line values (99)")
        await all_connections_home()
        assert await fetchval("select count(*) from line") == 0

    async def test_a_fault_in_the_block_is_what_the_caller_sees_though_the_rollback_fails_too(self) -> None:
        with pytest.raises(LookupError):
            async with transaction():
                await spawn(kill_backend(await fetchval("select pg_backend_pid()")), name="killer")
                raise LookupError


@pytest.mark.usefixtures("notes")
class TestTasks:
    """D2, D3: a transaction belongs to the task that opened it."""

    async def test_a_spawned_task_writes_on_its_own(self) -> None:
        with pytest.raises(LookupError):
            async with transaction():
                await execute("insert into note values (1)")
                await spawn(execute("insert into note values (2)"), name="child")
                raise LookupError
        assert await written() == [2]

    async def test_a_task_that_inherits_the_transaction_is_refused(self) -> None:
        async with transaction():
            with pytest.raises(TransactionMisused):
                await asyncio.create_task(execute("insert into note values (1)"))
        assert await written() == []

    async def test_a_nested_transaction_of_an_inheriting_task_is_refused(self) -> None:
        async def nested() -> None:
            async with transaction():
                await execute("insert into note values (1)")

        async with transaction():
            with pytest.raises(TransactionMisused):
                await asyncio.create_task(nested())

    async def test_gather_inside_a_transaction_is_refused_and_loses_no_connection(self) -> None:
        async with transaction():
            with pytest.raises(TransactionMisused):
                await asyncio.gather(*(execute(f"insert into note values ({n})") for n in range(3)))
        await all_connections_home()


@pytest.mark.usefixtures("notes")
class TestCancellation:
    """D4: a cancellation at any moment gives the connection back."""

    async def test_cancelling_at_any_moment_loses_no_connection(self) -> None:
        async def work() -> None:
            async with transaction():
                await execute("select 1")

        for round_number in range(200):
            task = spawn(work(), name="work")
            for _ in range(1 + round_number % 23):  # a task that never began cannot be cancelled inside
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await all_connections_home()

    async def test_cancelling_at_any_moment_is_no_error_in_the_log(self) -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: told.append(str(fault["message"])))
        try:
            await self.test_cancelling_at_any_moment_loses_no_connection()
        finally:
            asyncio.get_running_loop().set_exception_handler(None)
        assert told == []

    async def test_a_pool_with_a_busy_connection_closes_in_time(self, database: str) -> None:
        await start_pool(database, name="busy", size=1)

        async def hold_on() -> None:
            with use_pool("busy"):
                await execute("select pg_sleep(60)")

        task = spawn(hold_on(), name="hold-on")
        await asyncio.sleep(0.2)
        async with asyncio.timeout(9):
            await stop_pool("busy")
        await asyncio.wait([task])


class TestPools:
    """D5: no pool is an error, and an exhausted one an answer."""

    async def test_without_a_pool_nothing_is_connected(self) -> None:
        with use_pool("nowhere"), pytest.raises(Unavailable):
            await fetchval("select 1")

    async def test_an_exhausted_pool_answers_in_seconds(self, database: str) -> None:
        await start_pool(database, name="small", size=1)
        try:
            with use_pool("small"):
                async with DB.connection(), asyncio.timeout(ACQUIRE_TIMEOUT_S + 3):
                    with pytest.raises(Unavailable) as refused:
                        await fetchval("select 1")
            assert refused.value.headers["Retry-After"]
        finally:
            await stop_pool("small")

    async def test_timeouts_are_set_in_the_server(self, database: str) -> None:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert await fetchval(f"show {setting}") not in ("0", None)
        assert await fetchval("show jit") == "off"

    async def test_queries_of_one_task_share_pooled_connections(self, database: str) -> None:
        pids = {await fetchval("select pg_backend_pid()") for _ in range(10)}
        assert len(pids) == 1

    async def test_giving_a_connection_back_asks_the_server_nothing(self, database: str) -> None:
        # D16: asyncpg's own reset would be a round trip for each request, and would undo this setting.
        await execute("set application_name = 'still here'")
        try:
            assert await fetchval("show application_name") == "still here"
        finally:
            await execute("reset application_name")

    async def test_a_connection_comes_back_without_its_transaction(self, database: str) -> None:
        async with DB.connection() as connection:
            await connection.execute("begin")
        async with DB.connection() as connection:
            assert not connection.is_in_transaction()

    def test_nothing_is_connected_by_an_import(self) -> None:
        # D17: Piccolo's engine asks the server for its version as soon as it is made.
        nowhere = os.environ | {"PGHOST": "/nowhere", "PGCONNECT_TIMEOUT": "1"}
        code = "import socket; socket.socket.connect = None; import busbar.sdk, busbar.schema.core"
        done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("notes")
class TestNesting:
    """D6: a nested transaction is a savepoint."""

    async def test_what_a_caught_inner_failure_wrote_is_gone(self) -> None:
        async with transaction():
            await execute("insert into note values (1)")
            with pytest.raises(LookupError):
                async with transaction():
                    await execute("insert into note values (2)")
                    raise LookupError
            await execute("insert into note values (3)")
        assert await written() == [1, 3]

    async def test_the_outer_one_can_still_undo_what_the_inner_one_committed(self) -> None:
        with pytest.raises(LookupError):
            async with transaction():
                async with transaction():
                    await execute("insert into note values (1)")
                raise LookupError
        assert await written() == []

    async def test_on_commit_is_called_after_the_outermost_commit_only(self) -> None:
        called: list[str] = []
        async with transaction():
            async with transaction():
                on_commit(lambda: called.append("inner"))
            assert called == []
        assert called == ["inner"]
        with pytest.raises(LookupError):
            async with transaction():
                on_commit(lambda: called.append("undone"))
                raise LookupError
        assert called == ["inner"]
