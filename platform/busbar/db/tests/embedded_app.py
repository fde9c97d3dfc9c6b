"""A small application around the embedded PostgreSQL, for tests that kill it: `python -m` this with a home folder.

Prints a line of JSON for each thing that happens. Stops in order when a line arrives on its standard input.
"""

import asyncio
import json
import logging
import sys
from pathlib import Path

from busbar.db.embedded import start_embedded
from busbar.errors import BusbarError


class PrintLog(logging.Handler):
    """Sends what the supervisor logs to the test."""

    def emit(self, record: logging.LogRecord) -> None:
        say(log=record.getMessage())


def say(**fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


async def main(home: Path, *, fast_and_unsafe: bool) -> None:
    logging.getLogger("busbar.db.embedded").addHandler(PrintLog())
    try:
        server = await start_embedded(home, fast_and_unsafe=fast_and_unsafe)
    except BusbarError as reason:
        say(error=type(reason).__name__, detail=reason.detail)
        return
    say(dsn=server.dsn, owner=server.owner, guard=server._guard.pid)
    # The guard lives as long as nobody closes this process's end of its pipe.
    await asyncio.to_thread(sys.stdin.readline)
    await server.stop()
    say(stopped=True)


asyncio.run(main(Path(sys.argv[1]), fast_and_unsafe="--safe" not in sys.argv))
