"""How requests to the simulated services are read: addresses, bodies with deep inserts, versions."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from busbar_erp.model import EntitySet, Service, entity_set_of
from busbar_erp.simulator.messages import VERSION_HEADERS, ODataError, bad_request, not_found, stale
from busbar_erp.simulator.metadata import metadata_of
from busbar_erp.simulator.query import key_of
from busbar_erp.simulator.rules import Children
from busbar_erp.simulator.store import Row, decoded, empty_row, etag_of
from connector_simulation import ApiResponse, answer

IGNORES_READ_ONLY = ("API_PURCHASEREQ_PROCESS_SRV",)
"""Services that ignore fields which cannot be written, instead of refusing them."""

_SEGMENT = re.compile(r"(\w+)(?:\((.*)\))?(?:/(\$?\w+))?")


def described(service: Service, rest: str) -> ApiResponse:
    """The service document, or `$metadata`."""
    if rest == "$metadata":
        headers = {**VERSION_HEADERS, "Content-Type": "application/xml"}
        return ApiResponse(status=200, body=metadata_of(service.name), headers=headers)
    return answer(200, {"d": {"EntitySets": list(service.sets)}}, headers=VERSION_HEADERS)


def resolved(service: Service, rest: str) -> tuple[EntitySet, dict[str, Any] | None, str]:
    """Entity set, key and navigation (or `$count`) of a path below a service. Raises ODataError."""
    found = _SEGMENT.fullmatch(rest)
    if found is None or found[1] not in service.sets:
        raise not_found(f"segment '{rest}'")
    entity_set = service.sets[found[1]]
    key = None if found[2] is None else key_of(found[2], entity_set)
    if found[3] and (key is None) != (found[3] == "$count"):
        raise not_found(f"segment '{found[3]}'")
    return entity_set, key, found[3] or ""


def json_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises ODataError 400."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"Error while parsing the request: {error}") from None
    if not isinstance(document, dict):
        raise bad_request("The request is no JSON object.")
    return document.get("d", document) if isinstance(document.get("d", document), dict) else document


def body_of(entity_set: EntitySet, sent: Mapping[str, Any]) -> tuple[Row, Children]:
    """The fields of a new record, and the records below it. Raises ODataError 400, naming the field."""
    row: Row = {}
    children: dict[str, list[tuple[Row, Children]]] = {}
    for name, value in sent.items():
        if name == "__metadata":
            continue
        if name in entity_set.navigations:
            child = entity_set_of(entity_set.service, entity_set.navigations[name])
            children[name] = [_complete(child, one) for one in _listed(name, value)]
            continue
        field = entity_set.fields.get(name)
        if field is None:
            raise bad_request(f"Property {name} is invalid for {entity_set.name}.")
        if field.creatable:
            row[name] = decoded(field, value)
        elif entity_set.service not in IGNORES_READ_ONLY and not field.key:
            raise bad_request(f"Property {name} of {entity_set.name} cannot be set.")
    return row, children


def changes_of(entity_set: EntitySet, sent: Mapping[str, Any]) -> Row:
    """The fields that a change may change. Raises ODataError 400, naming one that it may not."""
    fields: Row = {}
    for name, value in sent.items():
        if name == "__metadata":
            continue
        field = entity_set.fields.get(name)
        if field is None:
            raise bad_request(f"Property {name} is invalid for {entity_set.name}.")
        if field.updatable and not field.key:
            fields[name] = decoded(field, value)
        elif entity_set.service not in IGNORES_READ_ONLY and not field.key:
            raise bad_request(f"Property {name} of {entity_set.name} cannot be changed.")
    return fields


def check_version(entity_set: EntitySet, row: Row, if_match: str | None, *, demanded: bool = True) -> None:
    """Raise ODataError for a change to another version than the latest, or to none where one is `demanded`."""
    if not entity_set.has_etag:
        return
    if if_match is None:
        if demanded:
            raise ODataError(428, "/IWFND/CM_MGW/057", "Precondition required: send If-Match with the entity's etag.")
    elif if_match not in ("*", etag_of(row)):
        raise stale()


def whole(text: str) -> int:
    """A number of `$top` or `$skip`. Raises ODataError 400."""
    if not text.isdecimal():
        raise bad_request(f"{text!r} is no whole number.")
    return int(text)


def _listed(name: str, value: Any) -> list[Any]:
    listed = value.get("results") if isinstance(value, dict) else value
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise bad_request(f"{name} takes a list of entities.")
    return listed


def _complete(child: EntitySet, sent: Mapping[str, Any]) -> tuple[Row, Children]:
    row, below = body_of(child, sent)
    return {**empty_row(child), **row}, below
