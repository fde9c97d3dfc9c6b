"""What the organization says about itself: versions, resources and the fields of its objects."""

from typing import Any

from busbar_crm.simulator.messages import ApiError, not_found
from busbar_crm.simulator.objects import OBJECTS, Field, SObject

VERSION_MIN, VERSION_MAX = 31, 66
"""Older ones are retired, newer ones do not exist yet."""


def supported(version: int) -> int:
    """The version if there is one. Raises ApiError."""
    if version > VERSION_MAX:
        raise not_found()
    if version < VERSION_MIN:
        raise ApiError(410, "UNSUPPORTED_API_VERSION", f"API version {version}.0 has been retired")
    return version


def versions() -> list[dict[str, str]]:
    """GET /services/data."""
    return [
        {"label": f"Release {version}", "url": f"/services/data/v{version}.0", "version": f"{version}.0"}
        for version in range(VERSION_MIN, VERSION_MAX + 1)
    ]


def resources(root: str) -> dict[str, str]:
    """GET /services/data/vXX.0."""
    return {name: f"{root}/{name}" for name in ("sobjects", "query", "queryAll", "limits", "composite")}


def every_object(root: str) -> dict[str, Any]:
    """GET sobjects."""
    return {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [_brief(kind, root) for kind in OBJECTS.values()]}


def of_object(kind: SObject, root: str, *, whole: bool) -> dict[str, Any]:
    """GET sobjects/<object>, or all of its description with its fields."""
    if not whole:
        return {"objectDescribe": _brief(kind, root), "recentItems": []}
    return {**_brief(kind, root), "fields": [_field(field) for field in kind.fields.values()]}


def _brief(kind: SObject, root: str) -> dict[str, Any]:
    return {
        "name": kind.name,
        "label": kind.name,
        "keyPrefix": kind.prefix,
        "custom": False,
        "createable": kind.writable,
        "updateable": kind.writable,
        "deletable": kind.writable,
        "queryable": True,
        "urls": {"sobject": f"{root}/sobjects/{kind.name}", "describe": f"{root}/sobjects/{kind.name}/describe"},
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "label": field.name,
        "type": field.type,
        "length": field.length,
        "custom": field.name.endswith("__c"),
        "externalId": field.external_id,
        "idLookup": field.external_id or field.type == "id",
        "createable": field.createable,
        "updateable": field.updateable,
        "filterable": field.filterable,
        "nillable": not field.required,
        "restrictedPicklist": bool(field.values),
        "picklistValues": [{"value": value, "label": value, "active": True} for value in field.values],
        "referenceTo": [field.refers_to] if field.refers_to else [],
        "relationshipName": field.relationship or None,
    }
