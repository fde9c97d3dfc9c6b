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
