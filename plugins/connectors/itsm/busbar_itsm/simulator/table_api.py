"""What the Table API does with one request: list, read, create, change and delete records.

Facts from ServiceNow's documentation (Apache-2.0): paths, envelope, status codes, headers, paging, the 404 of v1 for an
empty list, and silently ignored parts of a query. Only JSON is spoken.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from busbar_itsm.simulator import query as queries
from busbar_itsm.simulator.effects import Effect
from busbar_itsm.simulator.incidents import RuleBroken
from busbar_itsm.simulator.messages import ApiError, not_found
from busbar_itsm.simulator.records import Records, Row, Rows, UnknownTable, Written
from busbar_itsm.simulator.rendering import Look, render
from connector_simulation import ApiRequest, ApiResponse, EffectLog, answer

LIMIT_DEFAULT = 10_000
VERSIONS = ("v1", "v2")
CHANGE = "CHANGE"
"""The method in the effect log for what a simulated ServiceNow user did."""

_JSON_TYPES = ("application/json", "text/json")


class TableApi:
    """The Table API over the records; every write goes to the effect log and to `on_write`."""

    def __init__(self, *, effects: EffectLog[Effect], clock: Callable[[], datetime]) -> None:
        self.records = Records()
        self.effects = effects
        self.invalid_query_returns_no_rows = False
        """The instance's property glide.invalid_query.returns_no_rows."""
        self.on_write: Callable[[Effect, Row], None] = lambda effect, row: None
        self._clock = clock

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request below /api/now/. Errors are answers too."""
        try:
            version, table, sys_id = _address(request.path)
            try:
                rows = self.records.rows(table)
            except UnknownTable:
                raise ApiError(400, f"Invalid table {table}") from None
            _check_accept(request.headers.get("Accept", ""))
            return self._dispatch(request, rows, sys_id, version)
        except ApiError as error:
            return error.response

    def write(
        self,
        method: str,
        table: str,
        sys_id: str | None,
        fields: Mapping[str, Any],
        *,
        user: str,
        request_correlation_id: str,
    ) -> Written:
        """Carry out a write and log it. Raises UnknownTable, KeyError, RuleBroken."""
        now = self._clock()
        if method == "POST":
            written = self.records.insert(table, fields, user=user, now=now)
        elif method == "DELETE" and sys_id is not None:
            written = Written(row=self.records.delete(table, sys_id), changed=())
        elif sys_id is not None:
            written = self.records.update(table, sys_id, fields, user=user, now=now)
        else:
            raise ValueError(f"{method} needs a sys_id")
        row = written.row
        effect = Effect(
            n=self.effects.next_n,
            time=now,
            method=method,
            table=table,
            sys_id=row["sys_id"],
            number=row.get("number", ""),
            correlation_id=row.get("correlation_id", ""),
            fields=dict(fields),
            changed=written.changed,
            request_correlation_id=request_correlation_id,
            user=user,
        )
        self.effects.append(effect)
        self.on_write(effect, row)
        return written

    def replay(self, effect: Effect) -> None:
        """Carry out a logged write again, to restore the records of an earlier run."""
        fields, user, now = effect.fields, effect.user, effect.time
        if effect.method == "POST":
            self.records.insert(effect.table, fields, user=user, now=now, sys_id=effect.sys_id)
        elif effect.method == "DELETE":
            self.records.delete(effect.table, effect.sys_id)
        else:
            self.records.update(effect.table, effect.sys_id, fields, user=user, now=now)

    def _dispatch(self, request: ApiRequest, rows: Rows, sys_id: str | None, version: str) -> ApiResponse:
        method = request.headers.get("X-HTTP-Method-Override", request.method)
        if method == "GET":
            return self._list(request, rows, version) if sys_id is None else self._read(request, rows, sys_id)
        if (method == "POST") != (sys_id is None) or method not in ("POST", "PUT", "PATCH", "DELETE"):
            raise ApiError(405, "Method not supported", f"{method} is not supported here")
        if sys_id is not None and sys_id not in rows.by_sys_id:
            raise not_found()
        fields = {} if method == "DELETE" else _fields_of(request)
        try:
            written = self.write(
                method,
                rows.table.name,
                sys_id,
                fields,
                user=request.user,
                request_correlation_id=request.headers.get("X-Correlation-ID", ""),
            )
        except RuleBroken as broken:
            raise ApiError(403, "Operation Failed", str(broken)) from None
        if method == "DELETE":
            return ApiResponse(status=204)
        if method != "POST":
            return answer(200, {"result": self._rendered(request, rows, written.row)})
        root = request.path.rstrip("/")
        location = {"Location": f"{request.base_url}{root}/{written.row['sys_id']}"}
        if request.headers.get("X-no-response-body", "").lower() == "true":
            return ApiResponse(status=201, headers=location)
        return answer(201, {"result": self._rendered(request, rows, written.row)}, headers=location)

    def _read(self, request: ApiRequest, rows: Rows, sys_id: str) -> ApiResponse:
        row = rows.by_sys_id.get(sys_id)
        if row is None:
            raise not_found()
        return answer(200, {"result": self._rendered(request, rows, row)})

    def _list(self, request: ApiRequest, rows: Rows, version: str) -> ApiResponse:
        parsed = queries.parse(
            request.query.get("sysparm_query", ""), lambda path: queries.knows(self.records, rows, path)
        )
        if parsed.ignored and self.invalid_query_returns_no_rows:
            found: list[Row] = []
        else:
            found = queries.select(self.records, rows, parsed)
        limit = _whole_number(request.query.get("sysparm_limit", ""), LIMIT_DEFAULT)
        offset = _whole_number(request.query.get("sysparm_offset", ""), 0)
        headers = {}
        if request.query.get("sysparm_no_count") != "true":
            headers["X-Total-Count"] = str(len(found))
        if request.query.get("sysparm_suppress_pagination_header") != "true" and limit:
            headers["Link"] = _page_links(request, total=len(found), limit=limit, offset=offset)
        if not found and version == "v1":
            raise not_found()
        look = Look.of(request.query, request.base_url)
        page = found[offset : offset + limit]
        return answer(200, {"result": [render(self.records, rows, row, look) for row in page]}, headers=headers)

    def _rendered(self, request: ApiRequest, rows: Rows, row: Row) -> dict[str, Any]:
        return render(self.records, rows, row, Look.of(request.query, request.base_url))


def _address(path: str) -> tuple[str, str, str | None]:
    """Version, table and sys_id of a path such as /api/now/v2/table/incident/<sys_id>."""
    parts = path.strip("/").split("/")[2:]
    version = parts.pop(0) if parts and parts[0] in VERSIONS else ""
    if len(parts) not in (2, 3) or parts[0] != "table":
        raise ApiError(400, "Requested URI does not represent any resource")
    return version, parts[1], parts[2] if len(parts) == 3 else None


def _check_accept(accept: str) -> None:
    if not accept:
        raise ApiError(400, "Missing Accept header", "The Accept header is required")
    types = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    if not any(kind in (*_JSON_TYPES, "application/*", "*/*") for kind in types):
        raise ApiError(406, "Not acceptable", f"The simulator answers application/json, not {accept}")


def _fields_of(request: ApiRequest) -> dict[str, Any]:
    """The record in the body of a request; empty for an empty body."""
    if not request.body:
        return {}
    content_type = request.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if not content_type:
        raise ApiError(400, "Missing Content-Type header", "A request with a body needs the Content-Type header")
    if content_type not in _JSON_TYPES:
        raise ApiError(415, "Unsupported media type", f"The simulator reads application/json, not {content_type}")
    try:
        fields = msgspec.json.decode(request.body)
    except (ValueError, RecursionError):
        raise ApiError(400, "Exception while reading request", "The payload is not valid JSON.") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "Exception while reading request", "The payload must be one JSON object.")
    return fields


def _whole_number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default


def _page_links(request: ApiRequest, *, total: int, limit: int, offset: int) -> str:
    last = max(total - 1, 0) // limit * limit
    offsets = {"first": 0, "prev": offset - limit, "next": offset + limit, "last": last}
    if offset == 0:
        del offsets["prev"]
    if offset + limit >= total:
        del offsets["next"]
    links = []
    for relation, at in offsets.items():
        page = {**request.query, "sysparm_limit": str(limit), "sysparm_offset": str(max(at, 0))}
        links.append(f'<{request.base_url}{request.path}?{urlencode(page)}>;rel="{relation}"')
    return ",".join(links)
