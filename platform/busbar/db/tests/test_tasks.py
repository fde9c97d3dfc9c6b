"""Tasks end when they are told to, whatever happens in the same moment."""

import asyncio

import pytest

from busbar.db import end_tasks, spawn
from busbar.db.wakeup import wait_for


class TestALoopThatIsCancelled:
    @pytest.mark.parametrize("steps", range(4))
    async def test_just_when_it_is_woken_ends_all_the_same(self, steps: int) -> None:
        """With `asyncio.wait_for` of Python 3.11 the cancellation was forgotten, and the process never stopped."""
        event = asyncio.Event()

        async def loop() -> None:
            while True:
                await wait_for(event, poll_s=60)

        task = spawn(loop(), name="loop")
        for _ in range(4):
            await asyncio.sleep(0)
        event.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.cancelled()


class TestEndTasks:
    async def test_ends_one_that_forgets_its_first_cancellation(self) -> None:
        forgotten = 0

        async def stubborn() -> None:
            nonlocal forgotten
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                forgotten += 1
            await asyncio.Event().wait()

        task = spawn(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await end_tasks(task)
        assert (task.cancelled(), forgotten) == (True, 1)

    async def test_returns_when_there_is_nothing_to_end(self) -> None:
        await end_tasks()

    @pytest.mark.parametrize("fails", [True, False])
    async def test_takes_one_that_has_ended_already(self, fails: bool) -> None:
        async def short() -> None:
            if fails:
                raise ValueError("on its own")

        task = spawn(short(), name="short")
        await asyncio.wait([task])
        await end_tasks(task)
