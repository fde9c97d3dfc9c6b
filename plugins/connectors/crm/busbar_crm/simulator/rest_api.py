"""What the REST API does with one request: records, upserts by external id, queries, limits and descriptions.

Facts from Salesforce's published documentation and from reading simple-salesforce: paths, status codes, error arrays.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from busbar_crm.simulator import descriptions, soql
from busbar_crm.simulator.effects import Effect
from busbar_crm.simulator.messages import ApiError, not_found
from busbar_crm.simulator.objects import CASE, EXTERNAL_ID_FIELD, SObject
from busbar_crm.simulator.quota import Quota
from busbar_crm.simulator.records import Records, Row, Written, object_of
from connector_simulation import ApiRequest, ApiResponse, EffectLog, answer

ROOT = "/services/data"
VERSION_OF_BODIES = 46
"""From here on an upsert that updates answers 200 with a body; before, 204 without."""
BATCH_MAX, BATCH_MIN = 2000, 200

_PATH = re.compile(r"/services/data/v(\d{2,3})\.0(?:/(.*))?")
_BATCH = re.compile(r"batchSize=(\d+)", re.IGNORECASE)

Told = Callable[[Effect, Row], None]


class RestApi:
    """The API over the records; every write goes to the effect log and to `on_write`, both when its request is done."""

    def __init__(self, *, effects: EffectLog[Effect], clock: Callable[[], datetime], quota: Quota) -> None:
        self.records = Records()
        self.effects = effects
        self.quota = quota
        self.on_write: Told = lambda effect, row: None
        self._clock = clock
        self._cursors: dict[str, tuple[soql.Query, list[Row]]] = {}
        self._pending: list[tuple[Effect, Row]] = []

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request below /services/data. Errors are answers too."""
        try:
            return self.dispatch(request)
        except ApiError as error:
            return error.response
        finally:
            self.commit()

    def dispatch(self, request: ApiRequest) -> ApiResponse:
        """Answer one request, or one part of a composite request, whose effects wait for `commit`. Raises ApiError."""
        if request.path.rstrip("/") == ROOT:
            return answer(200, descriptions.versions())
        match = _PATH.fullmatch((request.target.partition("?")[0] or request.path).rstrip("/"))
        if match is None:
            raise not_found()
        version = descriptions.supported(int(match[1]))
        root = f"{ROOT}/v{version}.0"
        parts = [unquote(part) for part in (match[2] or "").split("/") if part]
        if parts[:1] == ["sobjects"]:
            return self._sobjects(request, parts[1:], version, root)
        if request.method != "GET":
            raise _no_method(request.method)
        if not parts:
            return answer(200, descriptions.resources(root))
        if parts == ["limits"]:
            left = max(self.quota.requests_max - self.quota.used, 0)
            return answer(200, {"DailyApiRequests": {"Max": self.quota.requests_max, "Remaining": left}})
        if parts[0] in ("query", "queryAll") and len(parts) <= 2:
            return self._more(parts[1], root) if len(parts) == 2 else self._query(request, root)
        raise not_found()

    def write(
        self,
        method: str,
        kind: SObject,
        record_id: str | None,
        fields: Mapping[str, Any],
        *,
        user: str,
        correlation_id: str,
    ) -> Written:
        """Carry out a write; it is logged and told by `commit`. Raises ApiError."""
        if not kind.writable:
            raise ApiError(403, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", f"entity type cannot be written: {kind.name}")
        now = self._clock()
        if method in ("DELETE", "REMOVE") and record_id is not None:
            written = Written(row=self.records.delete(kind, record_id), changed=())
        elif record_id is None:
            written = self.records.insert(kind, fields, user=user, now=now)
        else:
            written = self.records.update(kind, record_id, fields, user=user, now=now)
        row = written.row
        case = row if kind is CASE else self.records.tables["Case"].get(row.get("ParentId") or "", {})
        effect = Effect(
            n=0,
            time=now,
            method=method,
            object=kind.name,
            id=row["Id"],
            external_id=case.get(EXTERNAL_ID_FIELD) or "",
            number=case.get("CaseNumber") or "",
            fields={name: value for name, value in fields.items() if name != "attributes"},
            changed=written.changed,
            request_correlation_id=correlation_id,
            user=user,
        )
        self._pending.append((effect, row))
        return written

    def commit(self) -> None:
        """Log and tell what was written since the last time, as one."""
        pending, self._pending = self._pending, []
        first = self.effects.next_n
        done = [(msgspec.structs.replace(effect, n=first + n), row) for n, (effect, row) in enumerate(pending)]
        if done:
            self.effects.append(*(effect for effect, _ in done))
        for effect, row in done:
            self.on_write(effect, row)

    def forget_writes(self) -> None:
        """Forget what was written since the last commit; the records are rolled back by the caller."""
        self._pending = []

    def replay(self, effect: Effect) -> None:
        """Carry out a logged write again, to restore the records of an earlier run."""
        kind = object_of(effect.object)
        if effect.method in ("POST", "COMMENT"):
            written = self.records.insert(kind, effect.fields, user=effect.user, now=effect.time)
            assert written.row["Id"] == effect.id
        elif effect.method in ("DELETE", "REMOVE"):
            self.records.delete(kind, effect.id)
        else:
            self.records.update(kind, effect.id, effect.fields, user=effect.user, now=effect.time)

    def upsert(
        self, kind: SObject, field: str, value: str, fields: Mapping[str, Any], request: ApiRequest
    ) -> tuple[Written, bool]:
        """Create or change the record with an external id; whether it was created. Raises ApiError, Ambiguous."""
        found = self.records.with_external_id(kind, field, value)
        if len(found) > 1:
            raise Ambiguous(kind, found)
        definition = kind.field(field)
        assert definition is not None
        if any(name.casefold() == field.casefold() for name in fields):
            raise ApiError(
                400,
                "INVALID_FIELD",
                f"The {definition.name} field should not be specified in the sobject data.",
                fields=[definition.name],
            )
        if not found and definition.type == "id":
            raise not_found()
        correlation_id = request.headers.get("X-Correlation-ID", "")
        if found:
            written = self.write(
                "PATCH", kind, found[0]["Id"], fields, user=request.user, correlation_id=correlation_id
            )
        else:
            fields = {**fields, definition.name: value}
            written = self.write("POST", kind, None, fields, user=request.user, correlation_id=correlation_id)
        return written, not found

    def _sobjects(self, request: ApiRequest, parts: list[str], version: int, root: str) -> ApiResponse:
        if not parts:
            return answer(200, descriptions.every_object(root))
        kind, method = object_of(parts[0]), request.method
        correlation_id = request.headers.get("X-Correlation-ID", "")
        if len(parts) == 1 and method == "POST":
            written = self.write("POST", kind, None, body_of(request), user=request.user, correlation_id=correlation_id)
            document = {"id": written.row["Id"], "success": True, "errors": []}
            location = {"Location": f"{root}/sobjects/{kind.name}/{written.row['Id']}"}
            return answer(201, document, headers=location)
        if method == "GET" and (len(parts) == 1 or parts[1:] == ["describe"]):
            return answer(200, descriptions.of_object(kind, root, whole=len(parts) == 2))
        if len(parts) == 2:
            field, value = "Id", parts[1]
            record_id = self.records.get(kind, value)["Id"]
        elif len(parts) == 3:
            field, value = parts[1], parts[2]
            if method == "PATCH":
                return self._upserted(kind, field, value, request, version, root)
            record_id = self._only(kind, field, value)["Id"]
        else:
            raise not_found()
        if method == "GET":
            return answer(200, self._shown(kind, self.records.get(kind, record_id), request.query.get("fields"), root))
        if method not in ("PATCH", "DELETE"):
            raise _no_method(method)
        fields = body_of(request) if method == "PATCH" else {}
        self.write(method, kind, record_id, fields, user=request.user, correlation_id=correlation_id)
        return ApiResponse(status=204)

    def _upserted(
        self, kind: SObject, field: str, value: str, request: ApiRequest, version: int, root: str
    ) -> ApiResponse:
        try:
            written, created = self.upsert(kind, field, value, body_of(request), request)
        except Ambiguous as found:
            return answer(300, found.addresses(root))
        document = {"id": written.row["Id"], "success": True, "errors": [], "created": created}
        if created:
            return answer(201, document)
        return answer(200, document) if version >= VERSION_OF_BODIES else ApiResponse(status=204)

    def _only(self, kind: SObject, field: str, value: str) -> Row:
        found = self.records.with_external_id(kind, field, value)
        if not found:
            raise not_found()
        if len(found) > 1:
            raise Ambiguous(kind, found)
        return found[0]

    def _shown(self, kind: SObject, row: Row, fields: str | None, root: str) -> Row:
        names = [field.name for field in kind.fields.values()] if fields is None else []
        for name in (fields or "").split(","):
            if not name.strip():
                continue
            field = kind.field(name.strip())
            if field is None:
                raise ApiError(400, "INVALID_FIELD", f"No such column '{name.strip()}' on sobject of type {kind.name}")
            names.append(field.name)
        return {"attributes": soql.attributes(kind, row, root), **{name: row[name] for name in names}}

    def _query(self, request: ApiRequest, root: str) -> ApiResponse:
        query = soql.parse(self.records, request.query.get("q", ""))
        found = soql.select(self.records, query)
        if not query.fields:
            return answer(200, {"totalSize": len(found), "done": True, "records": []})
        asked = _BATCH.search(request.headers.get("Sforce-Query-Options", ""))
        size = min(max(int(asked[1]), BATCH_MIN), BATCH_MAX) if asked else BATCH_MAX
        locator = f"01gBB{secrets.token_hex(5)}"
        if len(found) > size:
            self._cursors[locator] = (query, found)
        return self._page(query, found, 0, size, locator, root)

    def _more(self, name: str, root: str) -> ApiResponse:
        locator, _, position = name.partition("-")
        if locator not in self._cursors or not position.isdecimal():
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        query, found = self._cursors[locator]
        return self._page(query, found, int(position), BATCH_MAX, locator, root)

    def _page(self, query: soql.Query, found: list[Row], start: int, size: int, locator: str, root: str) -> ApiResponse:
        end = start + size
        shown = [soql.render(self.records, query, row, root=root) for row in found[start:end]]
        document: dict[str, Any] = {"totalSize": len(found), "done": end >= len(found), "records": shown}
        if end < len(found):
            document["nextRecordsUrl"] = f"{root}/query/{locator}-{end}"
        return answer(200, document)


class Ambiguous(ApiError):
    """Several records carry one external id: 300 with their addresses."""

    def __init__(self, kind: SObject, rows: list[Row]) -> None:
        message = (
            f"{EXTERNAL_ID_FIELD}: more than one record found for external id field: {[row['Id'] for row in rows]}"
        )
        super().__init__(300, "DUPLICATE_EXTERNAL_ID", message)
        self._kind, self._rows = kind, rows
        self.response = answer(300, self.addresses(f"{ROOT}/v{descriptions.VERSION_MAX}.0"))

    def addresses(self, root: str) -> list[str]:
        """Where the records are."""
        return [f"{root}/sobjects/{self._kind.name}/{row['Id']}" for row in self._rows]


def body_of(request: ApiRequest) -> dict[str, Any]:
    """The record in the body of a request. Raises ApiError."""
    content_type = request.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"Content-Type {content_type!r} is not supported here")
    try:
        fields = msgspec.json.decode(request.body)
    except (ValueError, RecursionError):
        raise ApiError(400, "JSON_PARSER_ERROR", "The HTTP entity body is not valid JSON") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "JSON_PARSER_ERROR", "The HTTP entity body must be one JSON object")
    return fields


def _no_method(method: str) -> ApiError:
    return ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{method}' not allowed.")
