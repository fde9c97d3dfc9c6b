"""Calls of the Table API: where each goes and what it asks, for whoever sends it."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from busbar_itsm.answers import Refused

ROOT = "/api/now/table"
PLAIN = {"sysparm_exclude_reference_link": "true"}
"""Plain strings for references: the links name hosts we would have to distrust."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_SYS_ID = re.compile(r"[0-9a-zA-Z]{32}")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, without its method and headers."""

    path: str
    """Below the root of the instance, encoded."""
    query: Mapping[str, str] = msgspec.field(default_factory=PLAIN.copy)
    body: Mapping[str, str] | None = None


def find(
    table: str,
    query: Mapping[str, str],
    *,
    fields: Sequence[str] = (),
    limit: int,
    order_by: str = "",
    root: str = ROOT,
) -> Call:
    """Records whose fields equal every value of `query`. Raises Refused for what cannot be asked."""
    asked = {"sysparm_query": _encode_query(query, order_by), "sysparm_limit": str(limit)}
    if fields:
        asked["sysparm_fields"] = ",".join(dict.fromkeys((*fields, *query, "sys_id")))
    return Call(path=table_path(table, root=root), query=PLAIN | asked)


def get(table: str, sys_id: str, *, fields: Sequence[str] = (), root: str = ROOT) -> Call:
    """One record. Raises Refused for what is no sys_id."""
    asked = {"sysparm_fields": ",".join(dict.fromkeys((*fields, "sys_id")))} if fields else {}
    return Call(path=record_path(table, sys_id, root=root), query=PLAIN | asked)


def table_path(table: str, *, root: str = ROOT) -> str:
    """Where the records of a table are. Raises Refused."""
    if not _NAME.fullmatch(table):
        raise Refused(f"{table!r} is no table name.")
    return f"{root}/{table}"


def record_path(table: str, sys_id: str, *, root: str = ROOT) -> str:
    """Where one record is. Raises Refused."""
    if not _SYS_ID.fullmatch(sys_id):
        raise Refused(f"{sys_id!r} is no sys_id: 32 letters and digits.")
    return f"{table_path(table, root=root)}/{quote(sys_id, safe='')}"


def _encode_query(query: Mapping[str, str], order_by: str) -> str:
    parts = []
    for name, value in query.items():
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is no field name.")
        # An empty value would mean "is empty" and match almost everything; ^ would start a new condition.
        if not value or "^" in value or not value.isprintable():
            raise Refused(f"{value!r} cannot be looked up in {name}: empty, or holds ^ or control characters.")
        parts.append(f"{name}={value}")
    if order_by:
        if not _NAME.fullmatch(order_by):
            raise Refused(f"{order_by!r} is no field name.")
        parts.append(f"ORDERBY{order_by}")
    return "^".join(parts)
