"""The reconciler: gives back what lost workers held."""

import asyncio

import structlog

from busbar.db import DATABASE_TROUBLE
from busbar.db.wakeup import Channel, poke
from busbar.events import ledger

log = structlog.get_logger()


async def run_reconciler(*, grace_s: float, worker: int) -> None:
    """Look every `grace_s` seconds, until cancelled.

    A worker that misses its lock twice in a row is taken to be dead: once may be the moment of a reconnect. This
    process's own, `worker`, is alive, whatever its lock.
    """
    suspected: set[int] = set()
    while True:
        try:
            suspects = await ledger.suspects() - {worker}
            returned = await ledger.take_over(suspects & suspected)
            if returned:
                log.warning("deliveries_taken_over", count=returned)
                poke(Channel.DELIVERIES)
            suspected = suspects
        except DATABASE_TROUBLE as error:
            log.warning("reconciler_round_failed", error=str(error) or repr(error))
            suspected = set()
        await asyncio.sleep(grace_s)
