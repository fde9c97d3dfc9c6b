"""The records of the simulated system: one table for each entity set, with change sets that are taken back whole."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from busbar_erp.model import EntitySet, Field, services
from busbar_erp.simulator.messages import ODataError, bad_request
from busbar_erp.values import decimal_of, moment_of, time_of

Row = dict[str, Any]
"""Field name to text, bool, Decimal, aware time, time of day or None. A change makes another."""
KeyValues = tuple[Any, ...]
Mark = tuple[int, dict[str, int]]
"""A state to come back to: how many writes there were, and the numbers that were next."""

INDEXED = {
    "MaintenanceNotification": ("MaintNotifExtReferenceNumber",),
    "MaintenanceOrder": ("MaintenanceNotification",),
    "MaintenanceOrderOperation": ("MaintenanceOrder",),
    "A_PurchaseRequisitionItem": ("PurReqnExternalReference", "PurchaseRequisition"),
    "A_PurReqnAcctAssgmt": ("PurchaseRequisition",),
    "A_PurchaseReqnItemText": ("PurchaseRequisition",),
    "A_MaterialDocumentHeader": ("ReferenceDocument",),
    "A_MaterialDocumentItem": ("MaterialDocument", "ReversedMaterialDocument"),
}
"""Fields by which records are looked for again and again, or found below their parent."""

_EMPTY: dict[str, Any] = {"String": "", "Boolean": False, "Decimal": Decimal(0)}


class Rows:
    """The records of one entity set, with indexes."""

    def __init__(self, entity_set: EntitySet) -> None:
        self.entity_set = entity_set
        self.by_key: dict[KeyValues, Row] = {}
        self._indexes: dict[str, dict[Any, dict[KeyValues, Row]]] = {
            name: {} for name in INDEXED.get(entity_set.name, ())
        }

    def set(self, key: KeyValues, row: Row | None) -> Row | None:
        """Store a record, or with None remove it; returns what was there."""
        before = self.by_key.pop(key, None) if row is None else self.by_key.get(key)
        if row is not None:
            self.by_key[key] = row
        for name, index in self._indexes.items():
            if before is not None and (row is None or row[name] != before[name]):
                del index[before[name]][key]
            if row is not None:
                index.setdefault(row[name], {})[key] = row
        return before

    def where(self, name: str, value: Any) -> Iterator[Row] | None:
        """The records with this value, or None for a field without an index."""
        index = self._indexes.get(name)
        return None if index is None else iter(list(index.get(value, {}).values()))


class Store:
    """All tables and number ranges."""

    def __init__(self) -> None:
        self._tables = {
            (service.name, name): Rows(entity_set)
            for service in services().values()
            for name, entity_set in service.sets.items()
        }
        self._numbers: dict[str, int] = {}
        self._history: list[tuple[Rows, KeyValues, Row | None]] = []

    def rows(self, entity_set: EntitySet) -> Iterator[Row]:
        """The records of an entity set, in the order of creation."""
        return iter(list(self._table(entity_set).by_key.values()))

    def where(self, entity_set: EntitySet, name: str, value: Any) -> Iterator[Row] | None:
        """The records with this value, or None for a field without an index."""
        return self._table(entity_set).where(name, value)

    def get(self, entity_set: EntitySet, key: Mapping[str, Any]) -> Row | None:
        """The record with this key."""
        return self._table(entity_set).by_key.get(_key(entity_set, key))

    def put(self, entity_set: EntitySet, row: Row, *, now: datetime) -> Row:
        """Store a record, new or changed; its time of last change always grows, so that its etag does too."""
        table = self._table(entity_set)
        key = _key(entity_set, row)
        if entity_set.has_etag:
            before = table.by_key.get(key)
            now = _to_milliseconds(now)
            if before is not None:
                now = max(now, before["LastChangeDateTime"] + timedelta(milliseconds=1))
            row = {**row, "LastChangeDateTime": now}
        self._history.append((table, key, table.set(key, row)))
        return row

    def children(self, entity_set: EntitySet, row: Row, navigation: str) -> list[Row]:
        """The records below one, along a navigation: those that have its key."""
        child = services()[entity_set.service].sets[entity_set.navigations[navigation]]
        near = None
        for name in entity_set.keys:
            near = near or self.where(child, name, row[name])
        return [one for one in near or self.rows(child) if all(one[name] == row[name] for name in entity_set.keys)]

    def next_number(self, name: str, *, first: int) -> str:
        """The next number of a range."""
        number = self._numbers.get(name, first)
        self._numbers[name] = number + 1
        return str(number)

    def mark(self) -> Mark:
        """The state, to come back to."""
        return len(self._history), dict(self._numbers)

    def go_back(self, to: Mark) -> None:
        """Take back everything since the mark."""
        while len(self._history) > to[0]:
            table, key, before = self._history.pop()
            table.set(key, before)
        self._numbers = dict(to[1])

    def settle(self) -> None:
        """Forget the way back: what was done so far stays."""
        self._history.clear()

    def _table(self, entity_set: EntitySet) -> Rows:
        return self._tables[entity_set.service, entity_set.name]


def empty_row(entity_set: EntitySet) -> Row:
    """A record with the initial value of each field."""
    return {name: _EMPTY.get(field.type) for name, field in entity_set.fields.items()}


def etag_of(row: Row) -> str:
    """The weak etag that SAP makes of the time of the last change."""
    return f"W/\"datetimeoffset'{row['LastChangeDateTime'].strftime('%Y-%m-%dT%H:%M:%S.%f')}Z'\""


def decoded(field: Field, value: Any) -> Any:
    """A value of a JSON body as it is stored. Raises ODataError 400, as the gateway does, naming the field."""
    if value is None:
        return _EMPTY.get(field.type)
    found: Any = None
    match field.type:
        case "String" if isinstance(value, str):
            if field.length is not None and len(value) > field.length:
                raise ODataError(
                    400,
                    "/IWBEP/CX_MGW_BUSI_EXCEPTION",
                    f"Property '{field.name}' has value with length {len(value)}; at most {field.length} are allowed.",
                    details=[("005056A509B11EE1B9A8FEA8DE87F78E", "Value is too long.", field.name)],
                )
            return value
        case "Decimal":
            found = _fitting(field, decimal_of(value))
        case "DateTime" | "DateTimeOffset" if isinstance(value, str):
            found = moment_of(value) or _iso(value)
        case "Time" if isinstance(value, str):
            found = time_of(value)
        case "Boolean" if isinstance(value, bool):
            found = value
        case "Byte" | "Int32" if isinstance(value, int) and not isinstance(value, bool):
            found = value
    if found is None:
        raise bad_request(f"Property '{field.name}' has an invalid value for Edm.{field.type}.")
    return found


def _fitting(field: Field, number: Decimal | None) -> Decimal | None:
    if number is None or field.precision is None or abs(number) >= Decimal(10) ** (field.precision - field.scale):
        return None
    exact = number.quantize(Decimal(1).scaleb(-field.scale))
    return exact if exact == number else None


def _iso(text: str) -> datetime | None:
    # SAP Gateway takes the form without zone too.
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _to_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _key(entity_set: EntitySet, values: Mapping[str, Any]) -> KeyValues:
    return tuple(values[name] for name in entity_set.keys)
