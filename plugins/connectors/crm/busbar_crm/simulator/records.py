"""The data of the simulated organization: records by id, as Salesforce keeps them."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from busbar_crm.simulator.messages import ApiError, not_found
from busbar_crm.simulator.objects import CASE, OBJECTS, SObject

Row = dict[str, Any]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
CASE_NUMBER_FIRST = 1001


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What one accepted write did."""

    row: Row
    changed: tuple[str, ...]
    """Names of the fields whose value changed."""


class Records:
    """All objects. Every write takes the user's id and the time; system fields are set here and nowhere else.

    Rows are replaced, never changed, so that a savepoint is a copy of the tables.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Row]] = {one.name: {} for one in OBJECTS.values()}
        self._by_external_id: dict[tuple[str, str, str], dict[str, None]] = {}
        self._last_n = dict.fromkeys(self.tables, 0)

    def insert(self, kind: SObject, fields: Mapping[str, Any], *, user: str, now: datetime) -> Written:
        """Create a record. Raises ApiError."""
        sent = self._accepted(kind, fields, creating=True)
        for field in kind.fields.values():
            if field.required and sent.get(field.name) is None:
                raise ApiError(
                    400,
                    "REQUIRED_FIELD_MISSING",
                    f"Required fields are missing: [{field.name}]",
                    fields=[field.name],
                )
        at, n = stamp(now), self._next_n(kind)
        row: Row = {field.name: None for field in kind.fields.values()}
        row |= kind.defaults | sent
        row |= {"Id": _id(kind.prefix, n), "IsDeleted": False}
        row |= dict.fromkeys(("CreatedDate", "LastModifiedDate", "SystemModstamp"), at)
        row |= dict.fromkeys(("CreatedById", "LastModifiedById"), user)
        if kind is CASE:
            row["CaseNumber"] = f"{CASE_NUMBER_FIRST + n - 1:08d}"
            row["OwnerId"] = row["OwnerId"] or user
            _close(row, at)
        self._put(kind, None, row)
        return Written(row=row, changed=tuple(sent))

    def update(self, kind: SObject, record_id: str, fields: Mapping[str, Any], *, user: str, now: datetime) -> Written:
        """Change a record. Raises ApiError."""
        before = self.get(kind, record_id)
        sent = self._accepted(kind, fields, creating=False)
        at = stamp(now)
        row = {**before, **sent, "LastModifiedDate": at, "SystemModstamp": at, "LastModifiedById": user}
        changed = tuple(name for name in sent if row[name] != before[name])
        if kind is CASE:
            _close(row, at)
            if "Status" in changed:
                self._note_history(before, row, user=user, now=now)
        self._put(kind, before, row)
        return Written(row=row, changed=changed)

    def delete(self, kind: SObject, record_id: str) -> Row:
        """Delete a record, a Case with what belongs to it, and return it. Raises ApiError."""
        row = self.get(kind, record_id)
        self._remove(kind, row)
        if kind is CASE:
            for name, reference in (("CaseComment", "ParentId"), ("CaseHistory", "CaseId")):
                table = self.tables[name]
                for child in [child for child in table.values() if child[reference] == row["Id"]]:
                    del table[child["Id"]]
        return row

    def get(self, kind: SObject, record_id: str) -> Row:
        """The record with this id, of 15 or 18 characters. Raises ApiError."""
        table = self.tables[kind.name]
        full = record_id if len(record_id) == 18 else record_id + _check(record_id)
        if full not in table:
            raise not_found()
        return table[full]

    def with_external_id(self, kind: SObject, field: str, value: str) -> list[Row]:
        """Every record with this value, compared without regard to letter case. Raises ApiError for the field."""
        definition = kind.field(field)
        if definition is None or not (definition.external_id or definition.type == "id"):
            raise not_found(f"Provided external ID field does not exist or is not accessible: {field}")
        if definition.type == "id":
            row = self.tables[kind.name].get(value)
            return [row] if row else []
        ids = self._by_external_id.get((kind.name, definition.name, value.casefold()), {})
        return [self.tables[kind.name][record_id] for record_id in ids]

    def shared_external_ids(self) -> int:
        """How many external ids are carried by more than one record."""
        return sum(len(ids) > 1 for ids in self._by_external_id.values())

    def savepoint(self) -> Any:
        """What `roll_back` takes."""
        return {name: dict(rows) for name, rows in self.tables.items()}, dict(self._last_n)

    def roll_back(self, savepoint: Any) -> None:
        """Go back to a savepoint."""
        self.tables, self._last_n = savepoint
        self._by_external_id = {}
        for kind in OBJECTS.values():
            for row in self.tables[kind.name].values():
                for key in _external_keys(kind, row):
                    self._by_external_id.setdefault(key, {})[row["Id"]] = None

    def seed(self, kind: SObject, record_id: str, **fields: Any) -> None:
        """Put in a record that exists from the start, such as a user."""
        row: Row = {field.name: None for field in kind.fields.values()}
        self.tables[kind.name][record_id] = {**row, "Id": record_id, "IsDeleted": False, **fields}

    def _note_history(self, before: Row, row: Row, *, user: str, now: datetime) -> None:
        kind = OBJECTS["casehistory"]
        n = self._next_n(kind)
        record_id = _id(kind.prefix, n)
        values = {"CaseId": row["Id"], "Field": "Status", "OldValue": before["Status"], "NewValue": row["Status"]}
        at = dict.fromkeys(("CreatedDate", "LastModifiedDate", "SystemModstamp"), stamp(now))
        self.seed(kind, record_id, **values, **at, CreatedById=user, LastModifiedById=user)

    def _next_n(self, kind: SObject) -> int:
        self._last_n[kind.name] += 1
        return self._last_n[kind.name]

    def _put(self, kind: SObject, before: Row | None, row: Row) -> None:
        if before is not None:
            self._remove(kind, before, keep_place=True)
        self.tables[kind.name][row["Id"]] = row
        for key in _external_keys(kind, row):
            self._by_external_id.setdefault(key, {})[row["Id"]] = None

    def _remove(self, kind: SObject, row: Row, *, keep_place: bool = False) -> None:
        if not keep_place:
            del self.tables[kind.name][row["Id"]]
        for key in _external_keys(kind, row):
            ids = self._by_external_id[key]
            del ids[row["Id"]]
            if not ids:
                del self._by_external_id[key]

    def _accepted(self, kind: SObject, fields: Mapping[str, Any], *, creating: bool) -> Row:
        """The sent fields as they will be stored. Raises ApiError for what the real API refuses."""
        accepted: Row = {}
        for name, value in fields.items():
            if name == "attributes":
                continue
            field = kind.field(name)
            if field is None:
                raise ApiError(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
            if not (field.createable if creating else field.updateable):
                raise ApiError(
                    400,
                    "INVALID_FIELD_FOR_INSERT_UPDATE",
                    f"Unable to create/update fields: {field.name}. Please check the security settings of this field "
                    "and verify that it is read/write for your profile or permission set.",
                    fields=[field.name],
                )
            accepted[field.name] = _checked(field, value)
            if field.refers_to in ("Case",) and value is not None:
                self._require_parent(field.name, str(value))
        return accepted

    def _require_parent(self, name: str, value: str) -> None:
        full = value if len(value) == 18 else value + _check(value)
        if full not in self.tables["Case"]:
            raise ApiError(400, "MALFORMED_ID", f"{name}: id value of incorrect type: {value}", fields=[name])


def stamp(now: datetime) -> str:
    """A time as the REST API writes it: UTC, to the second."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def object_of(name: str) -> SObject:
    """The object of this name. Raises ApiError."""
    kind = OBJECTS.get(name.casefold())
    if kind is None:
        raise not_found()
    return kind


def _checked(field: Any, value: Any) -> Any:
    """A value that the field takes. Raises ApiError."""
    if value is None or value == "":
        return False if field.type == "boolean" else None
    if field.type == "boolean":
        if not isinstance(value, bool):
            raise ApiError(
                400, "JSON_PARSER_ERROR", f"Cannot deserialize instance of boolean from {type(value).__name__}"
            )
        return value
    if isinstance(value, bool | dict | list):
        raise ApiError(400, "JSON_PARSER_ERROR", f"Cannot deserialize instance of {field.type} for {field.name}")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if field.length and _length(field, text) > field.length:
        raise ApiError(
            400,
            "STRING_TOO_LONG",
            f"{field.name}: data value too large: {text[:40]} (max length={field.length})",
            fields=[field.name],
        )
    if field.values and text not in field.values:
        raise ApiError(
            400,
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            f"{field.name}: bad value for restricted picklist field: {text}",
            fields=[field.name],
        )
    return text


def _length(field: Any, text: str) -> int:
    """Comments are counted in bytes after HTML encoding, other texts in characters."""
    return len(escape(text).encode()) if field.name == "CommentBody" else len(text)


def _close(row: Row, at: str) -> None:
    was_closed, row["IsClosed"] = row["IsClosed"], row["Status"] == "Closed"
    if row["IsClosed"] != was_closed:
        row["ClosedDate"] = at if row["IsClosed"] else None


def _external_keys(kind: SObject, row: Row) -> Iterator[tuple[str, str, str]]:
    for field in kind.fields.values():
        if field.external_id and row[field.name]:
            yield kind.name, field.name, row[field.name].casefold()


def _id(prefix: str, n: int) -> str:
    """An id of 18 characters: prefix, instance, number, and three that make it safe against a change of letter case."""
    digits = ""
    while n:
        n, digit = divmod(n, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    short = f"{prefix}BB{digits:0>10}"
    return short + _check(short)


def _check(short: str) -> str:
    """Each of the three characters tells which of five characters are capital letters."""
    if len(short) != 15:
        return ""
    chunks = (short[start : start + 5] for start in (0, 5, 10))
    return "".join(
        _CHECK_ALPHABET[sum(1 << place for place, letter in enumerate(chunk) if "A" <= letter <= "Z")]
        for chunk in chunks
    )
