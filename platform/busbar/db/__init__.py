"""The database: one engine, one transaction wrapper, one way to start a task.

Start reading in `engine.py`; `embedded.py` is the PostgreSQL that comes along.
"""

from busbar.db.engine import DB, execute, fetch, fetchrow, fetchval, open_pools, start_pool, stop_pool, use_pool
from busbar.db.tasks import end_tasks, spawn
from busbar.db.transaction import in_transaction, on_commit, transaction
from busbar.db.trouble import DATABASE_TROUBLE

__all__ = [
    "DATABASE_TROUBLE",
    "DB",
    "end_tasks",
    "execute",
    "fetch",
    "fetchrow",
    "fetchval",
    "in_transaction",
    "on_commit",
    "open_pools",
    "spawn",
    "start_pool",
    "stop_pool",
    "transaction",
    "use_pool",
]
