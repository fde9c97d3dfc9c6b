"""One event of about 1 kB, as the plant maintenance module sends it when a ticket is created."""

from typing import Any

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "01939f6e-5b2a-7c3d-8e4f-0123456789ab",
    "source": "/busbar/north/pm",
    "type": "PM_TICKET_CREATED",
    "subject": "TKT-PM-20261123-0001",
    "time": "2026-11-23T09:15:30+01:00",
    "datacontenttype": "application/json",
    "correlationid": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    "site": "north",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "schemaversion": "1",
    "data": {
        "ticket_id": "TKT-PM-20261123-0001",
        "title": "Übergabestation Süd: oil temperature high",
        "description": "Protection relay reported 98 degrees on the top oil sensor; the cooling fans of bank two "
        "do not start from the control room. Crew asked to check the supply of the fans on site.",
        "severity": "P1",
        "status": "Open",
        "asset": {
            "asset_id": "north-T-104",
            "asset_type": "transformer",
            "name": "T-104 Harbour",
            "lat": 53.5461,
            "lon": 9.9661,
        },
        "customers_affected": 1240,
        "reported_by": "m.keller",
        "reported_at": "2026-11-23T08:14:57Z",
        "sla_deadline": "2026-11-23T12:15:30Z",
        "closed_at": None,
        "steps": [
            {"at": "2026-11-23T08:15:00Z", "customers": 1240},
            {"at": "2026-11-23T09:40:00Z", "customers": 310},
        ],
        "tags": ["oil", "cooling", "harbour"],
    },
}
