"""How near does Busbar over RabbitMQ come to what the broker alone can carry?

A backlog of events goes from the outbox over relay, publication and a quorum queue to a handler, whose effect and
outcome are committed in the ledger before the message is acknowledged. Beside it, in the same run and by turns:

- bare aio-pika: the same messages published (persistent, mandatory, confirms pipelined, 100 in flight) to the same
  exchange and a queue with the same arguments, consumed (same prefetch) and acknowledged, with a handler that does
  nothing. No database, no order, nothing that makes an effect happen once.
- FastStream with bookkeeping of its own: the same, and for each message one PostgreSQL transaction that puts its id
  into a table with a unique key and writes the effect; acknowledged after the commit. No outbox, order or retries.
- Busbar without a broker: the same pipeline by the embedded transport.

PostgreSQL and RabbitMQ are real and durable, and share the machine's cores with the side. Then events come at an even
pace, and the time until the handler begins is measured.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from benchmarks.bus_sides import Asked, Measured
from benchmarks.findings import Cell, Findings, Scale, Table, at_least, median
from busbar.db.embedded import start_embedded
from busbar.observability.logs import configure_logging
from busbar.schema.core import CORE
from busbar.testing.broker import TestBroker, broker
from busbar.testing.database import TestServer

QUESTION = "How near does Busbar over RabbitMQ come to what the broker alone can carry?"
EVENTS = 10_000
ROUNDS = 5
PER_SECOND = 50.0
PACE_S = 10.0
RATIO_MIN = 0.6
SIDE_S_MAX = 300
SIDES = {
    "busbar": "Busbar over RabbitMQ",
    "bare": "bare aio-pika",
    "faststream": "FastStream with bookkeeping",
    "embedded": "Busbar, embedded transport",
}
_TABLES = """
create table public.effect (n bigserial, subject text not null);
create table public.taken (message_id text primary key);
"""


async def measure(scale: Scale) -> Findings:
    """Let every side have its turn in every round."""
    found: dict[str, list[Measured]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory(prefix="busbar-bench-") as folder:
        Path(folder).chmod(0o755)
        configure_logging(level="WARNING")
        embedded = await start_embedded(Path(folder))
        server = TestServer(embedded)
        try:
            async with broker() as rabbitmq:
                for _ in range(ROUNDS):
                    for name in SIDES:
                        found[name].append(await _turn(name, server, rabbitmq, scale))
        finally:
            await embedded.stop()
    to_bare = _ratio(found["busbar"], found["bare"])
    return Findings(
        tables=(
            Table(
                title=f"A backlog of {scale.count(EVENTS):,} events of 1.2 kB; medians of {ROUNDS} rounds",
                columns=("by", "per second", "of bare aio-pika", "of FastStream", "CPU ms each"),
                rows=tuple(_drained(name, found) for name in SIDES),
            ),
            Table(
                title=f"{PER_SECOND:g} events a second, time until the handler begins",
                columns=("by", "from telling, p50 ms", "p99 ms", "from the commit, p50 ms", "p99 ms"),
                rows=tuple(_paced(name, found[name]) for name in SIDES),
            ),
        ),
        goals=(at_least("relay, queue and handler: share of bare aio-pika", to_bare, RATIO_MIN),),
    )


async def _turn(name: str, server: TestServer, rabbitmq: TestBroker, scale: Scale) -> Measured:
    """One side, in a process, with a database and a virtual host of its own."""
    database, dsn = await server.create_database((CORE,))
    vhost = await rabbitmq.create_vhost()
    try:
        connection = await asyncpg.connect(dsn)
        await connection.execute(_TABLES)
        await connection.execute("checkpoint")
        await connection.close()
        asked = Asked(
            dsn=dsn,
            amqp_url=rabbitmq.url_of(vhost),
            events=scale.count(EVENTS),
            per_second=PER_SECOND,
            seconds=scale.seconds(PACE_S),
        )
        command = [sys.executable, "-m", "benchmarks.bus_sides", name]
        ended = subprocess.run(command, input=msgspec.json.encode(asked), capture_output=True, timeout=SIDE_S_MAX)
        assert ended.returncode == 0, ended.stderr.decode()[-3000:]
        return msgspec.json.decode(ended.stdout, type=Measured)
    finally:
        await rabbitmq.drop_vhost(vhost)
        await server.drop_database(database)


def _ratio(ours: Sequence[Measured], theirs: Sequence[Measured]) -> float:
    return median([one.per_second / other.per_second for one, other in zip(ours, theirs, strict=True)])


def _drained(name: str, found: dict[str, list[Measured]]) -> tuple[Cell, ...]:
    mine = found[name]
    return (
        SIDES[name],
        median([each.per_second for each in mine]),
        _ratio(mine, found["bare"]),
        _ratio(mine, found["faststream"]),
        median([each.cpu_ms for each in mine]),
    )


def _paced(name: str, mine: Sequence[Measured]) -> tuple[Cell, ...]:
    def middle(values: Sequence[float | None]) -> Cell:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return (
        SIDES[name],
        middle([each.told_p50_ms for each in mine]),
        middle([each.told_p99_ms for each in mine]),
        middle([each.committed_p50_ms for each in mine]),
        middle([each.committed_p99_ms for each in mine]),
    )
