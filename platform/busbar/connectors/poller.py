"""Asks those remote systems that send no webhooks what has changed; takes each change once (SPEC R5.8)."""

import asyncio
import traceback
from collections.abc import Iterator
from typing import Final

import msgspec
import structlog

from busbar.auth.actor import Context
from busbar.bus.jobs import POLL_PREFIX, Job, announce, forget_jobs_but, run_if_due
from busbar.connectors.contract import Connector, Polled
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.http import failure_of
from busbar.connectors.inbound import CHANGES_MAX, ApplyChange, acting_as, fitted, take_changes
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.db import DATABASE_TROUBLE, end_tasks, execute, fetchval, spawn, transaction

log = structlog.get_logger()

LOOK_S: Final = 1.0
POLL_S_MAX: Final = 60.0
"""Longest time of one poll."""

_CURSOR = "select cursor from core.poll_cursor where endpoint_id = $1"
_KEEP = """
insert into core.poll_cursor (endpoint_id, cursor, polled_at) values ($1, $2, $3)
on conflict (endpoint_id) do update set cursor = excluded.cursor, polled_at = excluded.polled_at
"""


class PollFailed(Exception):
    """The remote could not be asked; the next poll asks again from the same cursor."""


class Poller:
    """Polls each active endpoint that asks for it, in one process at a time; a slow remote delays no other."""

    def __init__(self, desk: EndpointDesk, apply_change: ApplyChange) -> None:
        self._desk = desk
        self._apply_change = apply_change
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._polled: list[str] | None = None

    async def run(self) -> None:
        """Look every second which endpoint is due, until cancelled."""
        try:
            while True:
                self.look()
                await self._forget_others()
                await asyncio.sleep(LOOK_S)
        finally:
            await end_tasks(*self._polls.values())

    def look(self) -> None:
        """Start looking after every endpoint that polls and is not being looked after."""
        self._polls = {endpoint_id: task for endpoint_id, task in self._polls.items() if not task.done()}
        for endpoint, connector in self._all():
            if endpoint.endpoint_id not in self._polls:
                work = self._poll_if_due(endpoint, connector)
                name = f"poll-{endpoint.endpoint_id}"
                self._polls[endpoint.endpoint_id] = spawn(work, name=name, pool="background")

    def _all(self) -> Iterator[tuple[OpenEndpoint, Connector]]:
        for endpoint_id in self._desk.ids():
            endpoint = self._desk.listening(endpoint_id)
            if endpoint is None or endpoint.connector is None or endpoint.connector.poll is None:
                continue
            if endpoint.poll_s > 0:
                yield endpoint, endpoint.connector

    async def _forget_others(self) -> None:
        """When other endpoints are polled than before: the job of one that is polled no more must not seem overdue."""
        polled = [POLL_PREFIX + endpoint.endpoint_id for endpoint, _ in self._all()]
        if polled != self._polled:
            await forget_jobs_but(polled, polls=True)
            self._polled = polled

    async def _poll_if_due(self, endpoint: OpenEndpoint, connector: Connector) -> None:
        name = POLL_PREFIX + endpoint.endpoint_id
        job = Job(
            name=name,
            module=connector.kind,
            every_s=endpoint.poll_s,
            run=lambda ctx: self.poll(ctx, endpoint, connector),
        )
        try:
            await announce(job, self._desk.clock)
            await run_if_due(job, clock=self._desk.clock)
        except DATABASE_TROUBLE as error:
            log.warning("poll_not_recorded", endpoint=endpoint.endpoint_id, error=str(error) or repr(error))

    async def poll(self, ctx: Context, endpoint: OpenEndpoint, connector: Connector) -> None:
        """Ask once, and apply what came; the cursor moves with the changes, in one transaction for each.

        Raises:
            PollFailed: the remote could not be asked, or gave what cannot be read.
        """
        cursor: str | None = await fetchval(_CURSOR, endpoint.endpoint_id)
        polled = await _ask(endpoint, connector, cursor)
        acting = acting_as(ctx, endpoint)
        for change in polled.changes:
            # Taken by its revision: a poll that was cut off comes by the same change again.
            message_id = f"poll:{change.remote_id}:{change.marker}"
            await take_changes(acting, self._apply_change, endpoint.endpoint_id, message_id, (change,))
        async with transaction():
            await execute(_KEEP, endpoint.endpoint_id, polled.cursor, ctx.clock())


async def _ask(endpoint: OpenEndpoint, connector: Connector, cursor: str | None) -> Polled:
    assert connector.poll is not None
    try:
        async with endpoint.in_use() as seen, asyncio.timeout(POLL_S_MAX):
            polled = await connector.poll(seen, cursor)
        read = msgspec.convert(msgspec.to_builtins(polled), Polled)
    except Exception as error:  # noqa: BLE001 - a connector is a stranger's code
        try:
            failure = failure_of(error)
        except TypeError:
            cause = endpoint.secrets.redacted("".join(traceback.format_exception(error)))
            log.error("poll_failed", endpoint=endpoint.endpoint_id, connector=connector.kind, cause=cause)
            raise PollFailed(f"The connector failed: {type(error).__name__}.") from None
        raise PollFailed(endpoint.secrets.redacted(failure.detail)) from None
    if any(change.marker is None for change in read.changes) or len(read.changes) > CHANGES_MAX:
        raise PollFailed(f"A poll gives at most {CHANGES_MAX} changes, each with its marker.")
    return msgspec.structs.replace(read, changes=tuple(fitted(change) for change in read.changes))
