"""The simulated services: reads with their query options, writes with their checks, functions, and their answers."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from busbar_erp.model import ROOT, EntitySet, Service, entity_set_of, services
from busbar_erp.simulator.effects import Effect, EffectLog
from busbar_erp.simulator.messages import VERSION_HEADERS, ODataError, bad_request, not_allowed, not_found
from busbar_erp.simulator.metadata import is_document
from busbar_erp.simulator.query import filter_of, indexable, key_of, order_of, value_of
from busbar_erp.simulator.reading import body_of, changes_of, check_version, described, json_of, resolved, whole
from busbar_erp.simulator.rules import Applications
from busbar_erp.simulator.store import Row, Store, decoded, empty_row, etag_of
from busbar_erp.values import encoded, literal
from connector_simulation import ApiRequest, ApiResponse, answer

PAGE_MAX = 1_000
CHANGE = "CHANGE"
"""The method of an effect that a simulated user had."""
REFERENCES = ("MaintNotifExtReferenceNumber", "PurReqnExternalReference", "ReferenceDocument")


class ODataApi:
    """Answers requests below `/sap/opu/odata/sap/`; every write is one effect."""

    def __init__(self, *, effects: EffectLog, clock: Callable[[], datetime]) -> None:
        self.store = Store()
        self.applications = Applications(self.store)
        self.on_write: Callable[[Effect, Row], None] = lambda effect, row: None
        self._effects = effects
        self._clock = clock
        self._held: list[tuple[Effect, Row]] | None = None

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request. Errors are answers too."""
        try:
            return self._handle(request)
        except ODataError as error:
            return error.response

    def all_or_nothing(self, requests: list[ApiRequest]) -> list[ApiResponse]:
        """Answer the requests of a change set: either all succeed, or the one failure is the only answer."""
        before, self._held = self.store.mark(), []
        answers: list[ApiResponse] = []
        try:
            for request in requests:
                response = self.handle(request)
                if response.status >= 300:
                    self.store.go_back(before)
                    self._held = []
                    return [response]
                answers.append(response)
        finally:
            held, self._held = self._held, None
            # Written as one, so that a kill leaves all of a change set in the file or none.
            self._log(held)
        return answers

    def replay(self, effect: Effect) -> None:
        """Carry out a logged write again, without logging or telling it."""
        if effect.function:
            arguments = {
                name: decoded(services()[effect.service].functions[effect.function].parameters[name], value)
                for name, value in effect.fields.items()
            }
            self.applications.call(effect.function, arguments, now=effect.time)
            return
        entity_set = entity_set_of(effect.service, effect.entity_set)
        if effect.method == "POST":
            row, children = body_of(entity_set, effect.fields)
            row = {**empty_row(entity_set), **row}
            self.applications.create(entity_set, row, children, now=effect.time)
            return
        key = key_of(effect.key, entity_set)
        fields = {name: decoded(entity_set.fields[name], value) for name, value in effect.fields.items()}
        self._put(effect.method, entity_set, key, fields, now=effect.time)

    def change_as_user(self, entity_set: EntitySet, key: Mapping[str, Any], sent: Mapping[str, Any], user: str) -> Row:
        """Change a record as a user of the system can: fields that are read-only over the API too, or make a new one.

        Raises ODataError.
        """
        fields = {name: decoded(entity_set.fields[name], value) for name, value in sent.items()}
        now = self._clock()
        row = self._put(CHANGE, entity_set, key, fields, now=now)
        self._done(CHANGE, entity_set, row, fields=dict(sent), changed=tuple(fields), user=user, now=now)
        return row

    def _handle(self, request: ApiRequest) -> ApiResponse:
        name, _, rest = request.path.removeprefix(f"{ROOT}/").partition("/")
        service = services().get(name)
        if service is None:
            raise ODataError(
                403, "/IWFND/MED/170", f"No service found for namespace '', name '{name}', version '0001'."
            )
        method = request.headers.get("X-HTTP-Method", request.method)
        if rest in ("", "$metadata"):
            return described(service, rest)
        if rest in service.functions:
            return self._function(service, rest, request)
        entity_set, key, navigation = resolved(service, rest)
        if key is None and method == "GET":
            return self._list(entity_set, request, count=navigation == "$count")
        if key is None and method == "POST":
            return self._create(entity_set, request)
        if key is not None and method == "GET":
            return self._read(entity_set, key, navigation, request)
        if key is not None and method in ("PATCH", "MERGE") and not navigation:
            return self._update(entity_set, key, request)
        raise not_allowed(method, rest)

    def _list(self, entity_set: EntitySet, request: ApiRequest, *, count: bool) -> ApiResponse:
        near = None
        if asked := indexable(request.query.get("$filter", "")):
            near = self.store.where(entity_set, *asked)
        rows = self.store.rows(entity_set) if near is None else near
        return self._collection(entity_set, list(rows), request, count=count)

    def _collection(
        self, entity_set: EntitySet, rows: list[Row], request: ApiRequest, *, count: bool = False
    ) -> ApiResponse:
        query = request.query
        if "$filter" in query:
            test = filter_of(query["$filter"], entity_set)
            rows = [row for row in rows if test(row)]
        for name, falling in reversed(order_of(query.get("$orderby", ""), entity_set)):
            rows = sorted(rows, key=lambda row: (row[name] is not None, row[name]), reverse=falling)
        if count:
            return ApiResponse(status=200, body=str(len(rows)).encode(), headers={"Content-Type": "text/plain"})
        found, skip = len(rows), whole(query.get("$skip", "0"))
        page = rows[skip : skip + min(whole(query.get("$top", str(PAGE_MAX))), PAGE_MAX)]
        document: dict[str, Any] = {"results": [self._shown(entity_set, row, request) for row in page]}
        if query.get("$inlinecount") == "allpages":
            document = {"__count": str(found), **document}
        return answer(200, {"d": document}, headers=VERSION_HEADERS)

    def _read(self, entity_set: EntitySet, key: Mapping[str, Any], navigation: str, request: ApiRequest) -> ApiResponse:
        row = self._existing(entity_set, key)
        if navigation:
            if navigation not in entity_set.navigations:
                raise not_found(f"segment '{navigation}'")
            child = entity_set_of(entity_set.service, entity_set.navigations[navigation])
            return self._collection(child, self.store.children(entity_set, row, navigation), request)
        headers = {**VERSION_HEADERS, **({"ETag": etag_of(row)} if entity_set.has_etag else {})}
        return answer(200, {"d": self._shown(entity_set, row, request)}, headers=headers)

    def _create(self, entity_set: EntitySet, request: ApiRequest) -> ApiResponse:
        if not self.applications.can_create(entity_set):
            raise not_allowed("POST", entity_set.name)
        sent = json_of(request.body)
        row, children = body_of(entity_set, sent)
        now = self._clock()
        row = {**empty_row(entity_set), **row}
        if row.get("CreatedByUser") == "":
            row["CreatedByUser"] = request.user
        before = self.store.mark()
        try:
            stored = self.applications.create(entity_set, row, children, now=now)
        except ODataError:
            self.store.go_back(before)
            raise
        stored = self.store.get(entity_set, stored) or stored
        if not stored.get("PurReqnDoOnlyValidation"):
            kept = {**sent, "CreatedByUser": row["CreatedByUser"]} if "CreatedByUser" in row else sent
            self._done("POST", entity_set, stored, fields=kept, request=request, now=now)
        shown = self._shown(entity_set, stored, request, expand=tuple(children))
        headers = {**VERSION_HEADERS, "Location": shown["__metadata"]["uri"]}
        if entity_set.has_etag:
            headers["ETag"] = etag_of(stored)
        return answer(201, {"d": shown}, headers=headers)

    def _update(self, entity_set: EntitySet, key: Mapping[str, Any], request: ApiRequest) -> ApiResponse:
        if is_document(entity_set) or not any(field.updatable for field in entity_set.fields.values()):
            raise not_allowed("PATCH", entity_set.name)
        row = self._existing(entity_set, key)
        check_version(entity_set, row, request.headers.get("If-Match"))
        sent = json_of(request.body)
        fields = changes_of(entity_set, sent)
        now = self._clock()
        changed = tuple(name for name in fields if fields[name] != row[name])
        stored = self._put("PATCH", entity_set, key, fields, now=now)
        kept = {name: sent[name] for name in fields}
        self._done("PATCH", entity_set, stored, fields=kept, changed=changed, request=request, now=now)
        headers = {**VERSION_HEADERS, **({"ETag": etag_of(stored)} if entity_set.has_etag else {})}
        return ApiResponse(status=204, headers=headers)

    def _function(self, service: Service, name: str, request: ApiRequest) -> ApiResponse:
        function = service.functions[name]
        if request.method != "POST":
            raise not_allowed(request.method, name)
        arguments = {}
        for parameter, field in function.parameters.items():
            if parameter in request.query:
                arguments[parameter] = value_of(request.query[parameter], field)
            elif not field.nullable:
                raise bad_request(f"Parameter {parameter} of function {name} is missing.")
        now, before = self._clock(), self.store.mark()
        subject = next(iter(service.sets.values()))
        try:
            target = self._existing(subject, arguments)
            check_version(subject, target, request.headers.get("If-Match"), demanded=False)
            row = self.applications.call(name, arguments, now=now)
        except ODataError:
            self.store.go_back(before)
            raise
        sent = {parameter: encoded(function.parameters[parameter], value) for parameter, value in arguments.items()}
        touched = row or self._existing(subject, arguments)
        self._done("POST", subject, touched, fields=sent, request=request, function=name, now=now)
        if row is None:
            return answer(200, {"d": {name: {"IsInvalid": False}}}, headers=VERSION_HEADERS)
        return answer(200, {"d": self._shown(subject, row, request)}, headers=VERSION_HEADERS)

    def _put(self, method: str, entity_set: EntitySet, key: Mapping[str, Any], fields: Row, *, now: datetime) -> Row:
        known = self.store.get(entity_set, key)
        if method == CHANGE:
            # A user of the system may do more than its API lets others do, and make what no API can.
            return self.store.put(entity_set, {**(known or empty_row(entity_set)), **key, **fields}, now=now)
        return self.applications.change(entity_set, self._existing(entity_set, key), fields, now=now)

    def _existing(self, entity_set: EntitySet, key: Mapping[str, Any]) -> Row:
        row = self.store.get(entity_set, key)
        if row is None:
            raise not_found(f"segment '{entity_set.name}'")
        return row

    def _shown(
        self, entity_set: EntitySet, row: Row, request: ApiRequest, *, expand: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """A record as JSON, with the fields that were selected and the navigations that were expanded."""
        key = quote(key_text(entity_set, row), safe="'=,")
        uri = f"{request.base_url}{ROOT}/{entity_set.service}/{entity_set.name}({key})"
        metadata = {"id": uri, "uri": uri, "type": f"{entity_set.service}.{entity_set.name}Type"}
        if entity_set.has_etag:
            metadata["etag"] = etag_of(row)
        paths = tuple(filter(None, request.query.get("$expand", "").split(","))) if expand is None else expand
        selected = [name for name in request.query.get("$select", "").split(",") if name]
        if unknown := [n for n in selected if n.split("/")[0] not in (*entity_set.fields, *entity_set.navigations)]:
            raise bad_request(f"Property {unknown[0]} not found in type {entity_set.name}Type.")
        document: dict[str, Any] = {"__metadata": metadata}
        for name, field in entity_set.fields.items():
            if not selected or name in selected:
                document[name] = encoded(field, row.get(name))
        for name, target in entity_set.navigations.items():
            below = [path.partition("/")[2] for path in paths if path.split("/")[0] == name]
            if below:
                child = entity_set_of(entity_set.service, target)
                inner = msgspec.structs.replace(request, query={})
                deeper = tuple(filter(None, below)) if expand is None else tuple(child.navigations)
                rows = self.store.children(entity_set, row, name)
                document[name] = {"results": [self._shown(child, one, inner, expand=deeper) for one in rows]}
            elif not selected:
                document[name] = {"__deferred": {"uri": f"{uri}/{name}"}}
        return document

    def _done(
        self,
        method: str,
        entity_set: EntitySet,
        row: Row,
        *,
        fields: dict[str, Any],
        now: datetime,
        changed: tuple[str, ...] = (),
        request: ApiRequest | None = None,
        function: str = "",
        user: str = "",
    ) -> None:
        held = self._held or []
        effect = Effect(
            n=self._effects.next_n + len(held),
            time=now,
            method=method,
            service=entity_set.service,
            entity_set=entity_set.name,
            function=function,
            key=key_text(entity_set, row),
            reference=self._reference(entity_set, row),
            fields=fields,
            changed=changed,
            request_correlation_id="" if request is None else request.headers.get("X-Correlation-ID", ""),
            user=user if request is None else request.user,
        )
        if self._held is None:
            self._log([(effect, row)])
        else:
            self._held.append((effect, row))

    def _log(self, done: list[tuple[Effect, Row]]) -> None:
        self.store.settle()
        if done:
            self._effects.append(*(effect for effect, _ in done))
        for effect, row in done:
            self.on_write(effect, row)

    def _reference(self, entity_set: EntitySet, row: Row) -> str:
        found = [row[name] for name in REFERENCES if row.get(name)]
        if not found and "to_PurchaseReqnItem" in entity_set.navigations:
            items = self.store.children(entity_set, row, "to_PurchaseReqnItem")
            found = [item["PurReqnExternalReference"] for item in items]
        return str(found[0]) if found else ""


def key_text(entity_set: EntitySet, row: Mapping[str, Any]) -> str:
    """The key predicate of a record, without its brackets."""
    pairs = [f"{name}={literal(entity_set.fields[name], row[name])}" for name in entity_set.keys]
    return ",".join(pairs) if len(pairs) > 1 else pairs[0].partition("=")[2]
