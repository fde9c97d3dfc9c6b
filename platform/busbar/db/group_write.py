"""Group write: requests that wait share one statement (LESSONS D15).

While one batch is on its way to the database, what arrives waits, and goes out together as the next batch: no timer,
so a lone request is not delayed. A batch that fails is run again one by one, so that a bad request harms only itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from busbar.db.tasks import spawn
from busbar.errors import Unavailable

_LOST = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupWriter(Generic[Item, Result]):
    """Gathers items of concurrent callers and hands them to `write` in batches.

    `write` gets up to `batch_max` items and returns one result for each, in order; a result that is an exception is
    raised to its caller. `waiting_max` bounds the queue; `pool` names the pool whose connections are used.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        name: str,
        batch_max: int = 64,
        waiting_max: int = 2_000,
        flushers: int = 2,
        pool: str | None = None,
    ) -> None:
        self._write = write
        self._name = name
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._flushers_max = flushers
        self._pool = pool
        self._flushers_running = 0
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()

    async def submit(self, item: Item) -> Result:
        """Write `item`, together with what else waits; returns when it is durable.

        Raises:
            Unavailable: more than `waiting_max` items wait already.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("Too many writes are waiting; try again.", retry_after_s=1)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flushers_running < self._flushers_max:
            self._flushers_running += 1
            spawn(self._flush(), name=f"group-write-{self._name}", pool=self._pool)
        return await future

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_max))]
                # A caller that was cancelled before its turn has been told nothing, so nothing is written for it.
                batch = [(item, future) for item, future in batch if not future.cancelled()]
                if batch:
                    await self._write_batch(batch)
        finally:
            self._flushers_running -= 1

    async def _write_batch(self, batch: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results: Sequence[Result | BaseException] = await self._write([item for item, _ in batch])
        except (asyncpg.PostgresError, ValueError) as error:
            # The server refuses the statement, or one of the values could not even be sent. Where the connection was
            # lost instead, nobody knows whether the batch is written: it must not be written again.
            if len(batch) == 1 or isinstance(error, _LOST):
                results = [error] * len(batch)
            else:
                for one in batch:
                    await self._write_batch([one])
                return
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to every caller of the batch
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
