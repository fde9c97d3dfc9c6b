"""The one transaction wrapper: it always gives its connection back, nests as savepoints, and belongs to one task.

Piccolo's own wrapper keeps the connection and its context variable when COMMIT or ROLLBACK fails, so that one blip of
the database stops a long-lived task for ever (LESSONS D1); it makes nested transactions no-ops (D6) and lets tasks
that were started inside inherit the connection (D2, D3).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from piccolo.engine.postgres import PostgresTransaction

from busbar.db.trouble import DATABASE_TROUBLE

if TYPE_CHECKING:
    from busbar.db.engine import Engine

log = structlog.get_logger()


class TransactionMisused(RuntimeError):
    """A transaction was used by a task that did not open it; start tasks with `spawn()`, outside of transactions."""


class Transaction(PostgresTransaction):
    """What `DB.transaction()` returns; see the module's docstring for how it differs from Piccolo's.

    It ends with its block and by nothing else: `commit` and `rollback` inside are refused by asyncpg.
    """

    __slots__ = ("_after_commit", "_task")
    engine: "Engine"
    _parent: "Transaction | None"

    async def __aenter__(self) -> "Transaction":
        if self._parent is not None:
            self._parent.check_owner()
            self.connection = self._parent.connection
            self.transaction = self.connection.transaction()
            await self.transaction.__aenter__()
            return self
        self._task = asyncio.current_task()
        self._after_commit: list[Callable[[], None]] = []
        self.connection = await self.engine.acquire()
        try:
            self.transaction = self.connection.transaction()
            # Not `start`: of one that is cancelled meanwhile the pool would tell as of a fault, at each stop.
            await self.transaction.__aenter__()
            self.context = self.engine.current_transaction.set(self)
        except BaseException:
            await self.engine.release(self.connection)
            raise
        return self

    def check_owner(self) -> None:
        """Refuse a task that inherited this transaction instead of opening it.

        Raises:
            TransactionMisused: the running task is not the one that opened the transaction.
        """
        if self._task is not asyncio.current_task():
            raise TransactionMisused("the open transaction belongs to another task; start tasks with spawn()")

    async def __aexit__(self, exception_type: Any, exception: Any, traceback: Any) -> bool:
        if self._parent is not None:
            await self._finish(exception_type, exception, traceback)
            return False
        try:
            await self._finish(exception_type, exception, traceback)
        finally:
            self.engine.current_transaction.reset(self.context)
            await self.engine.release(self.connection)
        if exception is None:
            for call in self._after_commit:
                call()
        return False

    async def _finish(self, exception_type: Any, exception: Any, traceback: Any) -> None:
        try:
            await self.transaction.__aexit__(exception_type, exception, traceback)
        except DATABASE_TROUBLE as lost:
            if exception is None:
                raise
            # The first error is the one that counts; a connection that cannot roll back is dropped by the pool,
            # and the server rolls back by itself.
            log.warning("rollback_failed", error=str(lost))


@asynccontextmanager
async def transaction() -> AsyncIterator[Transaction]:
    """One database transaction, or a savepoint when one is open already in this task.

    Raises:
        Unavailable: no connection became free within the pool's time limit.
        TransactionMisused: the open transaction belongs to another task.
    """
    from busbar.db.engine import DB

    async with DB.transaction() as opened:
        yield opened


def on_commit(call: Callable[[], None]) -> None:
    """Call `call` once this task's transaction has committed, or now if none is open; it must not block."""
    from busbar.db.engine import DB

    opened: Transaction | None = DB.current_transaction.get()  # type: ignore[assignment]  # ours
    if opened is None:
        call()
    else:
        opened._after_commit.append(call)


def in_transaction() -> bool:
    """Whether this task is inside a transaction."""
    from busbar.db.engine import DB

    return DB.current_transaction.get() is not None
