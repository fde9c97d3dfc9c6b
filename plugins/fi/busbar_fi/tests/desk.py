"""What tests of finance share: cost centers and tickets to work with, and events of other modules as they are told."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
from hypothesis import HealthCheck
from hypothesis import strategies as st

from busbar.events.outbox import wake_relay
from busbar.sdk import execute, fetch, uuid7
from busbar.testing.app import Client
from busbar_fi.events import EVENT_TYPES

YEAR = datetime.now(UTC).year
MONEY = st.decimals(min_value=Decimal("0.01"), max_value=Decimal("9999999999999.99"), places=2)
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=120).filter(
    lambda text: not text.startswith(" ")
)
SLOW_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
SCHEMAS = {each.name: each.json_schema() for each in EVENT_TYPES}


def new_id(prefix: str = "CC") -> str:
    """An id that no other test has."""
    return f"{prefix}-{uuid7().hex[-12:]}"


async def add_center(client: Client, **fields: Any) -> str:
    """A cost center of the site `a` with a budget of 1,000; returns its id."""
    body = {"cost_center_id": new_id(), "name": "Grid", "budget_amount": "1000.00", "fiscal_year": YEAR}
    added = await client.post("/fi/cost-centers", body | {"responsible_manager": "Anna Berg"} | fields)
    return str(added["cost_center_id"])


async def add_ticket(*, site: str = "a", module: str = "pm", kind: str = "order", object_id: str = "o-1") -> str:
    """A ticket of another module, as if that had opened it."""
    ticket_id = f"TKT-{module.upper()}-20260101-{uuid7().hex[-10:].upper()}"
    now = datetime.now(UTC)
    await execute(
        "insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, "
        "created_by, created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id) values "
        "($1, $2, 'Maintenance', 'Work', '', 'P3', 'Open', $3, 'erna', $4, $4, $5, $6, $7, 'test')",
        ticket_id,
        module,
        site,
        now,
        now + timedelta(hours=24),
        kind,
        object_id,
    )
    return ticket_id


async def tell(
    event_type: str, data: dict[str, Any], *, subject: str, site: str = "a", time: datetime | None = None
) -> UUID:
    """An event of another module, as it stands in the outbox; relay and worker do the rest. Returns its id."""
    event_id = uuid7()
    await execute(
        "insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, "
        "correlation_id, traceparent, actor_id, origin) values ($1, $2, $3, $4, $5, $6, $7, 1, $8, null, 'erna', null)",
        event_id,
        event_type,
        event_type.partition("_")[0].lower(),
        site,
        subject,
        time or datetime.now(UTC),
        msgspec.json.encode(data).decode(),
        f"chain-{event_id}",
    )
    wake_relay()
    return event_id


async def told(event_type: str, subject: str) -> list[dict[str, Any]]:
    """The data of the events of a type about a subject, in order, each valid by its published schema."""
    rows = await fetch(
        "select data from core.event where event_type = $1 and subject = $2 order by seq", event_type, subject
    )
    found = [msgspec.json.decode(row["data"], type=dict[str, Any]) for row in rows]
    for data in found:
        jsonschema.validate(data, SCHEMAS[event_type])
    return found


async def spent(cost_center_id: str) -> Decimal:
    """The sum of a cost center's entries."""
    (row,) = await fetch(
        "select coalesce(sum(amount), 0) as amount from fi.cost_entry where cost_center_id = $1", cost_center_id
    )
    return Decimal(row["amount"])
