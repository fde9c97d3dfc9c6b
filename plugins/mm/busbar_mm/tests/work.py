"""What the tests share: materials, postings, and looking at what they wrote."""

import itertools
from decimal import Decimal
from typing import Any

import jsonschema
import msgspec

from busbar.sdk import fetch, fetchval, wake_relay
from busbar.testing.app import Answer, Client
from busbar_mm.events import EVENT_TYPES

SCHEMAS = {event_type.name: event_type.json_schema() for event_type in EVENT_TYPES}
_numbers = itertools.count(1)


def new_id() -> str:
    return f"MAT-{next(_numbers)}"


async def add(store: Client, **fields: Any) -> str:
    """Add a material; returns its id."""
    body = {"material_id": new_id(), "description": "Fuse", "unit_of_measure": "EA", "quantity": 0, **fields}
    return str((await store.post("/mm/materials", body))["material_id"])


async def post(store: Client, material_id: str, change: Any, kind: str = "issue", **more: Any) -> Answer:
    body = {"material_id": material_id, "quantity_change": str(change), "transaction_type": kind, **more}
    return await store.send("POST", "/mm/stock-transactions", body)


async def posted(store: Client, material_id: str, change: Any, kind: str = "issue", **more: Any) -> Any:
    """Post what must pass; the body of the answer."""
    answer = await post(store, material_id, change, kind, **more)
    assert answer.status == 201, answer.content
    return answer.body


async def material(store: Client, material_id: str) -> Any:
    return await store.get(f"/mm/materials/{material_id}")


async def quantity(store: Client, material_id: str) -> Decimal:
    return Decimal((await material(store, material_id))["quantity"])


async def ledger(store: Client, material_id: str) -> list[Any]:
    """All lines of a material's ledger, page by page."""
    lines: list[Any] = []
    cursor = ""
    while True:
        page = await store.get(f"/mm/materials/{material_id}/transactions?limit=200{cursor}")
        lines += page["items"]
        if page["next"] is None:
            return lines
        cursor = f"&cursor={page['next']}"


async def requisitions(store: Client, material_id: str, **filters: str) -> list[Any]:
    query = "".join(f"&{name}={value}" for name, value in filters.items())
    page = await store.get(f"/mm/purchase-requisitions?material_id={material_id}&sort=created_at{query}")
    return list(page["items"])


async def check_books(material_id: str) -> None:
    """What must hold of a material at every moment: stock, ledger and value agree, and nothing is negative."""
    row = (
        await fetch(
            """select m.quantity, m.stock_value,
                (select coalesce(sum(quantity), 0) from mm.stock s where s.material_id = m.material_id) as stock,
                (select min(quantity) from mm.stock s where s.material_id = m.material_id) as least,
                (select coalesce(sum(quantity_change), 0) from mm.stock_transaction t
                    where t.material_id = m.material_id) as ledger,
                (select coalesce(sum(value_change), 0) from mm.stock_transaction t
                    where t.material_id = m.material_id) as value,
                (select count(*) from mm.purchase_requisition r where r.material_id = m.material_id
                    and r.origin = 'reorder' and r.status in ('requested', 'approved', 'ordered')) as reorders
            from mm.material m where m.material_id = $1""",
            material_id,
        )
    )[0]
    assert row["quantity"] == row["stock"] == row["ledger"], dict(row)
    assert row["stock_value"] == row["value"], dict(row)
    assert row["quantity"] >= 0
    assert (row["least"] or 0) >= 0
    assert row["stock_value"] >= 0
    assert row["reorders"] <= 1, dict(row)
    if row["quantity"] == 0:
        assert row["stock_value"] == 0


async def events_of(subject: str, event_type: str | None = None) -> list[dict[str, Any]]:
    """The data of a subject's events, each checked against the published schema of its type."""
    rows = await fetch(
        "select event_type, data, correlation_id from core.event where subject = $1 order by seq", subject
    )
    found = []
    for row in rows:
        data = msgspec.json.decode(row["data"])
        jsonschema.Draft202012Validator(SCHEMAS[row["event_type"]]).validate(data)
        if event_type in (None, row["event_type"]):
            found.append(data)
    return found


async def event_types_of(subject: str) -> list[str]:
    rows = await fetch("select event_type from core.event where subject = $1 order by seq", subject)
    return [row["event_type"] for row in rows]


async def written() -> tuple[int, ...]:
    """How many rows there are that a posting or a requisition would add to."""
    tables = ("core.ticket", "core.event", "core.audit", "mm.stock_transaction", "mm.stock", "mm.purchase_requisition")
    return tuple([await fetchval(f"select count(*) from {table}") for table in tables])


async def tell(event_type: str, subject: str, data: dict[str, Any], *, site: str = "a") -> None:
    """Put another module's event on the bus, as that module would."""
    await fetchval(
        """insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version,
            correlation_id, actor_id)
        values (gen_random_uuid(), $1, lower(split_part($1, '_', 1)), $2, $3, now(), $4, 1, 'test', 'test')
        returning event_id""",
        event_type,
        site,
        subject,
        msgspec.json.encode(data).decode(),
    )
    wake_relay()


async def add_work_ticket(site: str = "a") -> str:
    """A ticket of plant maintenance, as other modules see it: a row."""
    number = next(_numbers)
    return str(
        await fetchval(
            """insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id,
                created_by, created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id)
            values ($1, 'pm', 'Maintenance', 'Work', '', 'P3', 'Open', $2, 'erna', now(), now(), now(), 'order',
                gen_random_uuid()::text, 'test') returning ticket_id""",
            f"TKT-PM-20260101-{number:04}",
            site,
        )
    )
