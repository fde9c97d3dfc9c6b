"""The loops of a process outlive their failures (LESSONS D1)."""

import asyncio
from contextlib import AsyncExitStack

from busbar import runtime


class TestKeep:
    async def test_a_loop_that_fails_is_begun_again(self, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.setattr(runtime, "_RESTART_S", 0.0)
        begun = 0
        third = asyncio.Event()

        async def work() -> None:
            nonlocal begun
            begun += 1
            if begun == 3:
                third.set()
                await asyncio.Event().wait()
            raise LookupError

        async with asyncio.timeout(30), AsyncExitStack() as stack:
            await runtime._keep(stack, work, "faulty")
            await third.wait()
        assert begun == 3

    async def test_it_ends_with_the_stack(self) -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with AsyncExitStack() as stack:
            await runtime._keep(stack, work, "quiet")
            await asyncio.sleep(0)
        assert ended.is_set()
