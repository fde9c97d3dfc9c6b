"""The reconciler: gives back what lost workers held."""

import asyncio

import asyncpg
import structlog

from busbar.db.wakeup import Channel, poke
from busbar.errors import BusbarError
from busbar.events import ledger

log = structlog.get_logger()


async def run_reconciler(*, grace_s: float) -> None:
    """Look every `grace_s` seconds, until cancelled.

    A worker that misses its lock twice in a row is taken to be dead: once may be the moment of a reconnect.
    """
    suspected: set[int] = set()
    while True:
        try:
            suspects = await ledger.suspects()
            returned = await ledger.take_over(suspects & suspected)
            if returned:
                log.warning("deliveries_taken_over", count=returned)
                poke(Channel.DELIVERIES)
            suspected = suspects
        except (BusbarError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("reconciler_round_failed", error=str(error) or repr(error))
            suspected = set()
        await asyncio.sleep(grace_s)
