"""A storm: ten thousand incidents in a minute on this machine (reliability P11)."""

import asyncio
import re
import sys

import pytest

from acceptance.api import Api
from acceptance.processes import PASSWORD, installation
from acceptance.world import world

INCIDENTS = 10_000
SECONDS = 60
GROWTH_BYTES_MAX = 150_000_000


@pytest.mark.slow
class TestStorm:
    @pytest.mark.timeout(600)
    async def test_ten_thousand_incidents_in_a_minute_are_taken_and_delivered(self) -> None:
        async with installation(fast_and_unsafe=False) as installed, world(installed) as around:
            busbar = await installed.start()
            async with Api(busbar.url) as api:
                await around.furnish(api)
                before = busbar.memory_bytes()
                told = await storm(busbar.url)
                accepted, refused, failed = (int(number) for number in re.findall(r"(\d+) (?:acc|ref|fail)", told)[:3])
                assert (accepted, refused, failed) == (INCIDENTS, 0, 0), told
                await api.drained(within_s=300)
            assert busbar.memory_bytes() - before <= GROWTH_BYTES_MAX
            rows = await installed.query("select ticket_id from core.ticket")
            assert await around.check_each_once(row["ticket_id"] for row in rows) == INCIDENTS


async def storm(url: str) -> str:
    """Run `busbar simulate storm` as its user would; returns what it says at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "busbar", "simulate", "storm", "--url", url, "--password", PASSWORD),
        *("--incidents", str(INCIDENTS), "--seconds", str(SECONDS)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    return " ".join(told.decode().split())
