"""How it shows that the database cannot be reached, or fails at what it was asked."""

from typing import Final

import asyncpg

from busbar.errors import Unavailable

DATABASE_TROUBLE: Final = (
    Unavailable,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that dies inside of asyncpg's own steps
    OSError,
    TimeoutError,
)
"""For the `except` of a loop that must go on: log it, wait, try again."""

CONNECTION_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalClientError,
    ConnectionError,
)
"""The part of it that is nobody's fault but the connection's: what was tried may work unchanged the next time."""
