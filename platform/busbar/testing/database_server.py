"""`python -m busbar.testing.database_server HOME`: a PostgreSQL for tests that start processes of their own.

Prints `{"dsn": …}` when it is ready, and stops with its standard input.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from busbar.db.embedded import start_embedded


async def serve(home: Path, *, fast_and_unsafe: bool) -> None:
    """Run the server until standard input ends."""
    server = await start_embedded(home, fast_and_unsafe=fast_and_unsafe)
    try:
        sys.stdout.write(msgspec.json.encode({"dsn": server.dsn}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), fast_and_unsafe="--fast-and-unsafe" in sys.argv[2:]))
