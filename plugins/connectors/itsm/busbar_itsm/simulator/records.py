"""The data of the simulated instance: tables of records, written as ServiceNow writes them."""

import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from busbar_itsm.simulator import incidents
from busbar_itsm.simulator.tables import TABLES, Table

Row = dict[str, str]

_INDEXED = ("correlation_id", "number", "element_id", "user_name")


class UnknownTable(Exception):
    """The instance has no such table."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What one accepted write did."""

    row: Row
    changed: tuple[str, ...]
    """Names of the fields whose value changed, journal fields included; empty if the write changed nothing."""


class Rows:
    """The records of one table by sys_id, in the order of creation, with an index on the fields people look up by."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.by_sys_id: dict[str, Row] = {}
        self.next_number = table.number_first
        self._indexes: dict[str, dict[str, dict[str, Row]]] = {
            field: {} for field in _INDEXED if field in table.defaults
        }

    def where(self, field: str, value: str) -> Iterator[Row] | None:
        """Records with this value, by an index; None if there is no index on the field."""
        if field == "sys_id":
            row = self.by_sys_id.get(value)
            return iter(() if row is None else (row,))
        index = self._indexes.get(field)
        return None if index is None else iter(tuple(index.get(value, {}).values()))

    def put(self, row: Row) -> None:
        before = self.by_sys_id.get(row["sys_id"])
        self.by_sys_id[row["sys_id"]] = row
        for field, index in self._indexes.items():
            if before is not None and before[field] and before[field] != row[field]:
                del index[before[field]][row["sys_id"]]
            if row[field]:
                index.setdefault(row[field], {})[row["sys_id"]] = row

    def remove(self, row: Row) -> None:
        del self.by_sys_id[row["sys_id"]]
        for field, index in self._indexes.items():
            if row[field]:
                del index[row[field]][row["sys_id"]]

    def shared_values(self, field: str) -> int:
        """How many values of an indexed field are held by more than one record."""
        return sum(len(rows) > 1 for rows in self._indexes[field].values())


class Records:
    """All tables. Every write takes the user's name and the time; sys_ fields are set here and nowhere else."""

    def __init__(self) -> None:
        self.tables = {name: Rows(table) for name, table in TABLES.items()}

    def rows(self, table: str) -> Rows:
        """The records of a table. Raises UnknownTable."""
        try:
            return self.tables[table]
        except KeyError:
            raise UnknownTable(table) from None

    def insert(
        self, table: str, fields: Mapping[str, Any], *, user: str, now: datetime, sys_id: str | None = None
    ) -> Written:
        """Create a record. Raises UnknownTable, incidents.RuleBroken."""
        rows = self.rows(table)
        definition = rows.table
        sent = _accepted(definition, fields)
        at = stamp(now)
        row = {**definition.defaults, **{name: sent[name] for name in sent if name not in definition.journals}}
        row["sys_id"] = sys_id or secrets.token_hex(16)
        row["sys_created_on"] = row["sys_updated_on"] = at
        row["sys_created_by"] = row["sys_updated_by"] = user
        if table == "incident":
            incidents.apply_rules(None, row, sent, user_id=self.user_id(user), at=at)
        if definition.number_prefix and not row["number"]:
            row["number"] = f"{definition.number_prefix}{rows.next_number:07d}"
            rows.next_number += 1
        rows.put(row)
        self._write_journals(definition, row["sys_id"], sent, user=user, now=now)
        return Written(row=row, changed=tuple(sent))

    def update(self, table: str, sys_id: str, fields: Mapping[str, Any], *, user: str, now: datetime) -> Written:
        """Change a record. Raises UnknownTable, KeyError for an unknown sys_id, incidents.RuleBroken."""
        rows = self.rows(table)
        definition = rows.table
        before = rows.by_sys_id[sys_id]
        sent = _accepted(definition, fields)
        row = {**before, **{name: sent[name] for name in sent if name not in definition.journals}}
        if table == "incident":
            incidents.apply_rules(before, row, sent, user_id=self.user_id(user), at=stamp(now))
        changed = tuple(name for name in row if row[name] != before[name])
        changed += tuple(name for name in sorted(definition.journals) if sent.get(name))
        if changed:
            row["sys_updated_on"], row["sys_updated_by"] = stamp(now), user
            row["sys_mod_count"] = str(int(before["sys_mod_count"]) + 1)
            rows.put(row)
            self._write_journals(definition, sys_id, sent, user=user, now=now)
        return Written(row=row, changed=changed)

    def delete(self, table: str, sys_id: str) -> Row:
        """Delete a record and return it. Raises UnknownTable, KeyError."""
        rows = self.rows(table)
        row = rows.by_sys_id[sys_id]
        rows.remove(row)
        return row

    def user_id(self, user: str) -> str:
        """The sys_id of a user by name; "" if there is no such user."""
        row = next(self.tables["sys_user"].where("user_name", user) or iter(()), None)
        return row["sys_id"] if row else ""

    def journal(self, sys_id: str, element: str) -> list[Row]:
        """The journal entries of a record's field, newest first, as a real instance shows them."""
        entries = self.tables["sys_journal_field"].where("element_id", sys_id) or iter(())
        return [entry for entry in entries if entry["element"] == element][::-1]

    def _write_journals(self, table: Table, sys_id: str, sent: Row, *, user: str, now: datetime) -> None:
        for element in sorted(table.journals):
            if sent.get(element):
                entry = {"name": table.name, "element": element, "element_id": sys_id, "value": sent[element]}
                self.insert("sys_journal_field", entry, user=user, now=now)


def stamp(now: datetime) -> str:
    """A time as the Table API writes it: UTC, to the second."""
    return now.strftime("%Y-%m-%d %H:%M:%S")


def _accepted(table: Table, fields: Mapping[str, Any]) -> Row:
    """The sent fields as they will be stored: unknown and sys_ names are dropped, values become strings."""
    accepted = {}
    for name, value in fields.items():
        if name not in table.defaults or (name.startswith("sys_") and name != "sys_class_name"):
            continue
        text = _text(value)
        if not text and name in table.choices:
            # A choice field cannot be cleared by sending "".
            continue
        accepted[name] = text[: table.lengths_max.get(name)]
    return accepted


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    # Booleans become "true" and "false", numbers their digits, anything else its JSON text.
    return msgspec.json.encode(value).decode()
