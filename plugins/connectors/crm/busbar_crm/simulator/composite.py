"""Several requests in one: the composite resource (25, with references) and collections of records (200)."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from busbar_crm.simulator.messages import ApiError
from busbar_crm.simulator.objects import SObject
from busbar_crm.simulator.records import object_of
from busbar_crm.simulator.rest_api import RestApi
from connector_simulation import ApiRequest, ApiResponse, answer

PARTS_MAX = 25
RECORDS_MAX = 200

_REFERENCE = re.compile(r"@\{([A-Za-z0-9_]+)\.([A-Za-z0-9_.]+)\}")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a composite request."""

    method: str
    url: str
    referenceId: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]{1,40}$")]
    body: dict[str, Any] | None = None
    httpHeaders: dict[str, str] = {}


class Composite(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST composite."""

    compositeRequest: tuple[Part, ...]
    allOrNone: bool = False


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request to composite/sobjects."""

    records: tuple[dict[str, Any], ...]
    allOrNone: bool = False


def handle(api: RestApi, request: ApiRequest, *, fail_last: bool = False) -> ApiResponse:
    """Answer a composite request; `fail_last` lets its last part fail as if a trigger had refused it."""
    if request.method != "POST":
        return ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed.").response
    try:
        composite = msgspec.json.decode(request.body, type=Composite)
    except (ValueError, RecursionError) as error:
        return ApiError(400, "JSON_PARSER_ERROR", str(error)).response
    parts = composite.compositeRequest
    if not 1 <= len(parts) <= PARTS_MAX or len({part.referenceId for part in parts}) < len(parts):
        message = f"A composite request has 1 to {PARTS_MAX} subrequests, each with a referenceId of its own"
        return ApiError(400, "INVALID_INPUT", message).response
    savepoint = api.records.savepoint()
    answered: list[dict[str, Any]] = []
    bodies: dict[str, Any] = {}
    for part in parts:
        is_failing = fail_last and part is parts[-1]
        response = _serve(api, request, part, bodies, is_failing=is_failing)
        body = msgspec.json.decode(response.body) if response.body else None
        if 200 <= response.status < 300:
            bodies[part.referenceId] = body
        headers = {name: value for name, value in response.headers.items() if name == "Location"}
        answered.append(
            {"body": body, "httpHeaders": headers, "httpStatusCode": response.status, "referenceId": part.referenceId}
        )
        if composite.allOrNone and response.status >= 300:
            break
    if composite.allOrNone and answered[-1]["httpStatusCode"] >= 300:
        api.records.roll_back(savepoint)
        api.forget_writes()
        answered = _halted(parts, answered[-1])
    api.commit()
    return answer(200, {"compositeResponse": answered})


def handle_collection(api: RestApi, request: ApiRequest, names: list[str]) -> ApiResponse:
    """Answer POST, PATCH and DELETE composite/sobjects, and PATCH composite/sobjects/<object>/<external id field>."""
    try:
        works, all_or_none = _works(api, request, names)
    except ApiError as error:
        return error.response
    savepoint, results = api.records.savepoint(), []
    for work in works:
        try:
            results.append(work())
        except ApiError as error:
            failed = {"statusCode": error.document[0]["errorCode"], "fields": [], **error.document[0]}
            results.append({"success": False, "errors": [{k: failed[k] for k in ("statusCode", "message", "fields")}]})
    if all_or_none and not all(result["success"] for result in results):
        api.records.roll_back(savepoint)
        api.forget_writes()
        rolled_back = {
            "statusCode": "ALL_OR_NONE_OPERATION_ROLLED_BACK",
            "message": "Record rolled back because not all records were valid and the request was using AllOrNone",
            "fields": [],
        }
        results = [
            result if not result["success"] else {"success": False, "errors": [rolled_back]} for result in results
        ]
    api.commit()
    return answer(200, results)


def _serve(api: RestApi, outer: ApiRequest, part: Part, bodies: Mapping[str, Any], *, is_failing: bool) -> ApiResponse:
    try:
        if is_failing:
            raise ApiError(400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "the simulator was told to refuse this")
        url = _resolved(part.url, bodies, encode=True)
        address = urlsplit(url)
        if address.path.rstrip("/").endswith("/composite"):
            raise ApiError(400, "INVALID_INPUT", "A composite request cannot hold another one")
        body = _resolved_body(part.body, bodies)
        return api.dispatch(
            ApiRequest(
                method=part.method,
                path=address.path,
                query=dict(parse_qsl(address.query, keep_blank_values=True)),
                headers=outer.headers,
                body=b"" if body is None else msgspec.json.encode(body),
                base_url=outer.base_url,
                target=url,
                user=outer.user,
            )
        )
    except ApiError as error:
        return error.response


def _halted(parts: tuple[Part, ...], failed: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers to a rolled back request: the failed part's own, and for the others that they were halted."""
    message = "The transaction was rolled back since another operation in the same transaction failed."
    halted = [{"errorCode": "PROCESSING_HALTED", "message": message}]
    return [
        failed
        if part.referenceId == failed["referenceId"]
        else {"body": halted, "httpHeaders": {}, "httpStatusCode": 400, "referenceId": part.referenceId}
        for part in parts
    ]


def _resolved(text: str, bodies: Mapping[str, Any], *, encode: bool = False) -> str:
    """A text with its references to earlier parts filled in. Raises ApiError."""

    def value(match: re.Match[str]) -> str:
        found = bodies.get(match[1])
        for name in match[2].split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is None:
            raise ApiError(
                400, "PROCESSING_HALTED", f"Invalid reference specified. No value for {match[1]}.{match[2]} found"
            )
        return quote(str(found), safe="") if encode else str(found)

    return _REFERENCE.sub(value, text)


def _resolved_body(body: dict[str, Any] | None, bodies: Mapping[str, Any]) -> dict[str, Any] | None:
    if body is None:
        return None
    return {name: _resolved(value, bodies) if isinstance(value, str) else value for name, value in body.items()}


def _works(api: RestApi, request: ApiRequest, names: list[str]) -> tuple[list[Callable[[], dict[str, Any]]], bool]:
    """What is to be done for each record of a collection, and whether all or none. Raises ApiError."""
    if request.method == "DELETE" and not names:
        ids = [one for one in request.query.get("ids", "").split(",") if one]
        _limit(len(ids))
        return [_delete(api, request, one) for one in ids], request.query.get("allOrNone") == "true"
    try:
        collection = msgspec.json.decode(request.body, type=Collection)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "JSON_PARSER_ERROR", str(error)) from None
    _limit(len(collection.records))
    if request.method == "PATCH" and len(names) == 2:
        kind = object_of(names[0])
        works = [_upsert(api, request, kind, names[1], record) for record in collection.records]
    elif request.method in ("POST", "PATCH") and not names:
        works = [_write(api, request, record) for record in collection.records]
    else:
        raise ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{request.method}' not allowed.")
    return works, collection.allOrNone


def _upsert(
    api: RestApi, request: ApiRequest, kind: SObject, field: str, record: dict[str, Any]
) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        _type_of(record)
        value = str(record.get(field) or "")
        if not value:
            raise ApiError(400, "MISSING_ARGUMENT", f"{field} not specified")
        fields = {name: each for name, each in record.items() if name != field}
        written, created = api.upsert(kind, field, value, fields, request)
        return {"id": written.row["Id"], "success": True, "errors": [], "created": created}

    return work


def _write(api: RestApi, request: ApiRequest, record: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        kind = object_of(_type_of(record))
        record_id = None if request.method == "POST" else str(record.get("id") or record.get("Id") or "")
        fields = {name: value for name, value in record.items() if name.casefold() != "id"}
        correlation_id = request.headers.get("X-Correlation-ID", "")
        written = api.write(request.method, kind, record_id, fields, user=request.user, correlation_id=correlation_id)
        return {"id": written.row["Id"], "success": True, "errors": []}

    return work


def _delete(api: RestApi, request: ApiRequest, record_id: str) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        kind = object_of({"500": "Case", "00a": "CaseComment"}.get(record_id[:3], ""))
        correlation_id = request.headers.get("X-Correlation-ID", "")
        api.write("DELETE", kind, record_id, {}, user=request.user, correlation_id=correlation_id)
        return {"id": record_id, "success": True, "errors": []}

    return work


def _type_of(record: Mapping[str, Any]) -> str:
    attributes = record.get("attributes")
    if not isinstance(attributes, dict) or not isinstance(attributes.get("type"), str):
        raise ApiError(400, "INVALID_TYPE", "Each record needs attributes.type")
    return str(attributes["type"])


def _limit(count: int) -> None:
    if not 1 <= count <= RECORDS_MAX:
        raise ApiError(400, "INVALID_BATCH_SIZE", f"A collection has 1 to {RECORDS_MAX} records, not {count}")
