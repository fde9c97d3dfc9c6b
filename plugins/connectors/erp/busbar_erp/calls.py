"""Calls of SAP's OData V2 services: where each goes, what it asks and what it carries, for whoever sends it."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from busbar_erp.answers import Refused
from busbar_erp.model import EntitySet, Function, entity_set_of, services
from busbar_erp.values import DoesNotFit, Value, body_of, literal

Key = Mapping[str, Value]
"""Name and value of each key field."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, without its method and headers."""

    path: str
    """Below the root of the system, encoded."""
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None


def find(
    service: str,
    entity_set: str,
    equal: Key | None = None,
    *,
    conditions: Sequence[str] = (),
    select: Sequence[str] = (),
    expand: Sequence[str] = (),
    order_by: str = "",
    top: int = 50,
    skip: int = 0,
) -> Call:
    """Up to `top` entities whose fields equal every value of `equal` and meet the conditions, each a $filter."""
    kind = set_of(service, entity_set)
    tests = [f"{name} eq {_literal(kind, name, value)}" for name, value in (equal or {}).items()]
    options = {
        "$filter": " and ".join((*tests, *conditions)),
        "$select": ",".join(select),
        "$expand": ",".join(expand),
        "$orderby": order_by,
        "$top": str(top),
        "$skip": str(skip) if skip else "",
    }
    given = {name: text for name, text in options.items() if text}
    return Call(path=f"{services()[service].path}/{entity_set}", query=given)


def get(service: str, entity_set: str, key: Key, *, expand: Sequence[str] = ()) -> Call:
    """One entity."""
    path = f"{services()[service].path}/{key_path(set_of(service, entity_set), key)}"
    return Call(path=path, query={"$expand": ",".join(expand)} if expand else {})


def create(service: str, entity_set: str, fields: Mapping[str, Any]) -> Call:
    """A new entity, with those below it that `fields` has under its navigations."""
    body = body_of_checked(set_of(service, entity_set), fields)
    return Call(path=f"{services()[service].path}/{entity_set}", body=body)


def update(service: str, entity_set: str, key: Key, fields: Mapping[str, Any]) -> Call:
    """A change of one entity."""
    kind = set_of(service, entity_set)
    return Call(path=f"{services()[service].path}/{key_path(kind, key)}", body=body_of_checked(kind, fields))


def function(service: str, name: str, arguments: Key) -> Call:
    """A function import."""
    kind = _function(service, name)
    query = {
        parameter: _argument(kind, parameter, value) for parameter, value in arguments.items() if value is not None
    }
    return Call(path=f"{services()[service].path}/{name}", query=query)


def key_path(kind: EntitySet, key: Key) -> str:
    """`A_CostCenter(ControllingArea='A000',…)`, or with one key field `MaintenanceNotification('10000001')`, encoded.

    Raises Refused for a key that the entity set does not have.
    """
    if set(key) != set(kind.keys):
        raise Refused(f"The key of {kind.name} is {', '.join(kind.keys)}, and not {', '.join(key)}.")
    pairs = [f"{name}={_literal(kind, name, key[name])}" for name in kind.keys]
    if len(pairs) == 1:
        pairs = [pairs[0].partition("=")[2]]
    return kind.name + quote(f"({','.join(pairs)})", safe="(),='")


def condition(service: str, entity_set: str, field: str, operator: str, value: Value) -> str:
    """One comparison for `find`, such as `LastChangeDateTime ge datetimeoffset'…'`."""
    return f"{field} {operator} {_literal(set_of(service, entity_set), field, value)}"


def body_of_checked(kind: EntitySet, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of an entity. Raises Refused, naming the field, for what SAP would not take."""
    try:
        return body_of(kind, fields, services()[kind.service].sets)
    except DoesNotFit as error:
        raise Refused(str(error)) from error


def set_of(service: str, entity_set: str) -> EntitySet:
    """An entity set of the catalog. Raises Refused."""
    try:
        return entity_set_of(service, entity_set)
    except KeyError as error:
        raise Refused(f"{service} has no entity set {entity_set}.") from error


def _function(service: str, name: str) -> Function:
    try:
        return services()[service].functions[name]
    except KeyError as error:
        raise Refused(f"{service} has no function {name}.") from error


def _literal(kind: EntitySet, name: str, value: Value) -> str:
    try:
        return literal(kind.fields[name], value)
    except KeyError as error:
        raise Refused(f"{kind.name} has no field {name}.") from error
    except DoesNotFit as error:
        raise Refused(str(error)) from error


def _argument(kind: Function, name: str, value: Value) -> str:
    try:
        return literal(kind.parameters[name], value)
    except KeyError as error:
        raise Refused(f"{kind.name} has no parameter {name}.") from error
    except DoesNotFit as error:
        raise Refused(str(error)) from error
