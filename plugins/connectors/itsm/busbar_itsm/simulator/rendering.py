"""How records look in an answer: chosen fields, reference links and display values."""

from collections.abc import Mapping
from typing import Any

import msgspec

from busbar_itsm.simulator.query import dot_walk
from busbar_itsm.simulator.records import Records, Row, Rows


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that shape a record."""

    base_url: str
    fields: tuple[str, ...]
    """Field paths to show; all fields if empty. Unknown ones are left out."""
    display_value: str
    """"false", "true" or "all"."""
    exclude_links: bool

    @classmethod
    def of(cls, query: Mapping[str, str], base_url: str) -> "Look":
        """Read sysparm_fields, sysparm_display_value and sysparm_exclude_reference_link."""
        display_value = query.get("sysparm_display_value", "false")
        return cls(
            base_url=base_url,
            fields=tuple(name.strip() for name in query.get("sysparm_fields", "").split(",") if name.strip()),
            display_value=display_value if display_value in ("true", "all") else "false",
            exclude_links=query.get("sysparm_exclude_reference_link") == "true",
        )


def render(records: Records, rows: Rows, row: Row, look: Look) -> dict[str, Any]:
    """The record as a member `result` holds it."""
    if look.fields:
        shown = {}
        for path in look.fields:
            value, owner_rows, name = dot_walk(records, rows, row, path)
            if owner_rows is not None:
                owner = row if owner_rows is rows and "." not in path else {name: value}
                shown[path] = _shown(records, owner_rows, owner, name, look)
            elif path.split(".")[0] in row and "." in path:
                # A path through an empty reference.
                shown[path] = "" if look.display_value != "all" else {"display_value": "", "value": ""}
        return shown
    if look.display_value != "false":
        return {name: _shown(records, rows, row, name, look) for name in row}
    shown = dict(row)
    if not look.exclude_links:
        for name, target in rows.table.references.items():
            if row[name]:
                shown[name] = {"link": _link(look, target, row[name]), "value": row[name]}
    return shown


def _shown(records: Records, rows: Rows, row: Row, name: str, look: Look) -> Any:
    value = row[name]
    target = rows.table.references.get(name) if value else None
    link = {} if target is None or look.exclude_links else {"link": _link(look, target, value)}
    if look.display_value == "false":
        return {**link, "value": value} if link else value
    display = _display_value(records, rows, row, name)
    if look.display_value == "all":
        return {"display_value": display, **link, "value": value}
    return {"display_value": display, **link} if link else display


def _display_value(records: Records, rows: Rows, row: Row, name: str) -> str:
    table, value = rows.table, row[name]
    if name in table.journals:
        label = "Additional comments" if name == "comments" else "Work notes"
        return "".join(
            f"{entry['sys_created_on']} - {entry['sys_created_by']} ({label})\n{entry['value']}\n\n"
            for entry in records.journal(row.get("sys_id", ""), name)
        )
    if name in table.choices:
        return table.choices[name].get(value, value)
    target = records.tables.get(table.references.get(name, "")) if value else None
    referred = target.by_sys_id.get(value) if target else None
    return referred[target.table.display] if target and referred else value


def _link(look: Look, table: str, sys_id: str) -> str:
    return f"{look.base_url}/api/now/table/{table}/{sys_id}"
