"""The one way to start a task: with a clean context, and with its failure told."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

_CANCEL_AGAIN_S = 0.5
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Any], *, name: str, pool: str | None = None) -> asyncio.Task[Any]:
    """Start `work` as a task that inherits no transaction of its parent (LESSONS D2).

    `pool` names the connection pool that the task uses; by default that of requests. A failure that nobody awaits is
    logged as `task_failed`.
    """
    running = work if pool is None else _in_pool(work, pool)
    task = asyncio.get_running_loop().create_task(running, name=name, context=contextvars.Context())
    _running.add(task)
    task.add_done_callback(_finished)
    if pool is not None:
        # A task that is cancelled before its first step never awaits its work; closing it says that this is meant.
        task.add_done_callback(lambda _: work.close())
    return task


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks until they have ended.

    Once is not always enough: in Python 3.11 `asyncio.wait_for`, which asyncpg uses, forgets a cancellation that comes
    in the moment in which what it waits for is done. A loop would then run on, and the process never stop.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)


async def _in_pool(work: Coroutine[Any, Any, Any], pool: str) -> Any:
    from busbar.db.engine import use_pool

    with use_pool(pool):
        return await work


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), error=repr(error), exc_info=error)
