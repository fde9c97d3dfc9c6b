"""A process that calls the calendar plans that are due on a day: `python -m busbar_pm.tests.plan_runner DSN DAY`."""

import asyncio
import sys
from datetime import UTC, datetime

from busbar.db import open_pools
from busbar.sdk import SITES, Context, system_actor
from busbar.testing.plugins import load_plugin
from busbar_pm import plan_calls, plugin


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def run(dsn: str, day: str) -> None:
    load_plugin(plugin, name="pm")
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    async with open_pools(dsn, size=2, background_size=1):
        await SITES.refresh()
        say("ready")
        await plan_calls.call_calendar_plans(
            Context(actor=system_actor("pm"), correlation_id="runner", clock=lambda: moment)
        )
        say("done")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2]))
