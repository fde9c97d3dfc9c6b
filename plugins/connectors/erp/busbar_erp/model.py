"""The services, entity sets, fields and functions of SAP that this connector uses, as facts of our own in `catalog/`.

Client and simulator both read them: the one to refuse what does not fit before it is sent, the other to enforce it.
"""

import csv
from functools import cache
from pathlib import Path

import msgspec

ROOT = "/sap/opu/odata/sap"
_CATALOG = Path(__file__).parent / "catalog"

NOTIFICATIONS = "API_MAINTNOTIFICATION"
ORDERS = "API_MAINTENANCEORDER"
REQUISITIONS = "API_PURCHASEREQ_PROCESS_SRV"
MATERIAL_DOCUMENTS = "API_MATERIAL_DOCUMENT_SRV"
STOCK = "API_MATERIAL_STOCK_SRV"
COST_CENTERS = "API_COSTCENTER_SRV"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A property of an entity, or a parameter of a function."""

    name: str
    type: str
    """Without the prefix `Edm.`."""
    length: int | None = None
    """Characters of a text."""
    precision: int | None = None
    scale: int = 0
    """Digits of a decimal, and those behind its point."""
    key: bool = False
    creatable: bool = True
    updatable: bool = True
    nullable: bool = True


class EntitySet(msgspec.Struct, frozen=True, kw_only=True):
    """A collection of a service, such as A_PurchaseRequisitionHeader."""

    service: str
    name: str
    fields: dict[str, Field]
    navigations: dict[str, str]
    """Name of the navigation, name of the entity set that it leads to. A child has all keys of its parent."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(name for name, field in self.fields.items() if field.key)

    @property
    def has_etag(self) -> bool:
        """Whether a change must name the version that it is made to: all sets that know their last change."""
        return "LastChangeDateTime" in self.fields


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function import; all that are used here are sent with POST."""

    service: str
    name: str
    parameters: dict[str, Field]
    returns: str | None
    """The entity set of what it gives back; None for an answer that only says that it was done."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One OData service."""

    name: str
    sets: dict[str, EntitySet]
    functions: dict[str, Function]

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.name}"


@cache
def services() -> dict[str, Service]:
    """All services by name."""
    found: dict[str, Service] = {}
    for row in _rows("fields.csv"):
        service = found.setdefault(row["service"], Service(name=row["service"], sets={}, functions={}))
        name = row["entity_set"]
        entity_set = service.sets.setdefault(
            name, EntitySet(service=service.name, name=name, fields={}, navigations={})
        )
        entity_set.fields[row["field"]] = _field(row)
    for row in _rows("navigations.csv"):
        found[row["service"]].sets[row["entity_set"]].navigations[row["navigation"]] = row["target"]
    for row in _rows("functions.csv"):
        service = found[row["service"]]
        function = service.functions.setdefault(
            row["function"],
            Function(service=service.name, name=row["function"], parameters={}, returns=row["returns"] or None),
        )
        function.parameters[row["parameter"]] = Field(
            name=row["parameter"],
            type=row["edm_type"].removeprefix("Edm."),
            length=int(row["length"]) if row["length"] else None,
            nullable=row["nullable"] == "Y",
        )
    return found


def entity_set_of(service: str, name: str) -> EntitySet:
    """An entity set of the catalog. Raises KeyError."""
    return services()[service].sets[name]


def _field(row: dict[str, str]) -> Field:
    kind, size = row["edm_type"].removeprefix("Edm."), row["length"]
    precision, _, scale = size.partition(",")
    is_decimal = kind == "Decimal"
    return Field(
        name=row["field"],
        type=kind,
        length=int(size) if size and not is_decimal else None,
        precision=int(precision) if is_decimal and precision else None,
        scale=int(scale) if is_decimal and scale else 0,
        key=row["key"] == "Y",
        creatable=row["creatable"] == "Y",
        updatable=row["updatable"] == "Y",
        nullable=row["key"] != "Y",
    )


def _rows(file: str) -> list[dict[str, str]]:
    with (_CATALOG / file).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
