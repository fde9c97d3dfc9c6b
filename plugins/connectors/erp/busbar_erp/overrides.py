"""How the fields that a route's mapping made replace the connector's own, one by one."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from busbar.sdk import Permanent
from busbar_erp.model import EntitySet, Field
from busbar_erp.values import decimal_of, time_of

Fields = dict[str, Any]

RESERVED = ("MaintNotifExtReferenceNumber", "PurReqnExternalReference", "ReferenceDocument", "MaintenanceNotification")
"""By these Busbar finds its documents."""


def overridden(document: Mapping[str, Any] | None, *targets: tuple[EntitySet, Fields]) -> None:
    """Put each field of `document` into the first of the targets whose entity set has it; null leaves one of ours out.

    Raises Permanent, naming the field, for one that none has, that SAP does not let us set, or that is Busbar's own.
    """
    for name, value in (document or {}).items():
        found = next(((kind, fields) for kind, fields in targets if name in kind.fields), None)
        if found is None:
            names = ", ".join(kind.name for kind, _ in targets)
            raise Permanent(f"The route's mapping makes a field {name}, which {names} do not have.")
        kind, fields = found
        if name in RESERVED or kind.fields[name].key:
            raise Permanent(f"The route's mapping makes {name}, which Busbar keeps for itself; take it out.")
        if not kind.fields[name].creatable:
            raise Permanent(f"The route's mapping makes {name}, which SAP lets nobody set; take it out.")
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = _value(kind.fields[name], value)


def _value(field: Field, value: Any) -> Any:
    """A value of a mapping as the field's type has it. A float is refused: it has lost digits already."""
    made: Any = None
    if isinstance(value, {"String": str, "Boolean": bool}.get(field.type, ())):
        made = value
    elif field.type in ("Decimal", "Byte", "Int32") and isinstance(value, int) and not isinstance(value, bool):
        made = Decimal(value) if field.type == "Decimal" else value
    elif isinstance(value, str):
        made = _read(field, value)
    if made is None:
        raise Permanent(f"The route's mapping makes {field.name}, a {field.type}, of {value!r}.")
    return made


def _read(field: Field, text: str) -> Any:
    try:
        match field.type:
            case "Decimal":
                return decimal_of(text)
            case "DateTime":
                return date.fromisoformat(text)
            case "DateTimeOffset":
                return datetime.fromisoformat(text)
            case "Time":
                return time_of(text)
    except ValueError:
        return None
    return None
