"""The running simulator: logon, CSRF and the webhook around the OData services."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import connector_simulation
from busbar_erp.model import COST_CENTERS, NOTIFICATIONS, REQUISITIONS, ROOT, EntitySet, entity_set_of, services
from busbar_erp.simulator import batch
from busbar_erp.simulator.accounts import COOKIE, TOKEN_PATH, Accounts, Credentials
from busbar_erp.simulator.effects import Effect
from busbar_erp.simulator.messages import ODataError, bad_request, busy, locked, not_found, stale, token_required
from busbar_erp.simulator.messages import unauthorized as logon_failed
from busbar_erp.simulator.odata_api import CHANGE, REFERENCES, ODataApi
from busbar_erp.simulator.store import Row, empty_row
from busbar_erp.values import encoded
from connector_simulation import (
    KINDS,
    ApiRequest,
    ApiResponse,
    Misbehaviour,
    SimulatorServer,
    running,
    started,
    system_clock,
)

WRITES = ("POST", "PUT", "PATCH", "MERGE", "DELETE")
BUYER = "BUYER01"
LOGON_PAGE = b"<!DOCTYPE html><html><head><title>Logon</title></head><body>Log on to your SAP system</body></html>"
COST_CENTER_IDS = ("CC-100", "CC-200", "CC-BLOCKED")
CONTROLLING_AREA = "A000"


class Options(connector_simulation.Options, frozen=True, kw_only=True):
    """How the simulator starts, and what a reset goes back to."""

    credentials: Credentials = msgspec.field(default_factory=Credentials)
    token_life_s: int = 3600


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that a user of the system makes; the record is named by its key, or by its external reference."""

    entity_set: str = ""
    key: dict[str, str] = {}
    reference: str = ""
    fields: dict[str, Any]
    user: str = BUYER


class Simulator(SimulatorServer[Effect]):
    """One simulated system, run by `run_simulator` or `start_simulator`; `url`, `tls_url` and `ca_file` say where."""

    NAME = "SAP-compatible simulator"
    API_PATH = f"{ROOT}/"
    KINDS: Mapping[str, float] = {**KINDS, "csrf_expired": 0.0, "stale_etag": 0.0, "locked": 0.0, "busy": 5.0}

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = system_clock) -> None:
        super().__init__(options, Effect, clock=clock)
        self.credentials = options.credentials
        self.accounts = Accounts(options.credentials, token_life_s=options.token_life_s, clock=clock)
        self.control.handlers |= {
            ("POST", "revoke-tokens"): self._revoke_tokens,
            ("POST", "expire-sessions"): self._expire_sessions,
        }
        self.start_anew()

    @property
    def endpoint_settings(self) -> dict[str, Any]:
        """The settings of a client's endpoint that reaches this simulator."""
        return {
            "base_url": self.url,
            "username": self.credentials.username,
            "plant": "1010",
            "company_code": "1010",
            "controlling_area": CONTROLLING_AREA,
            "purchasing_group": "001",
            "default_storage_location": "0001",
            "default_cost_center": COST_CENTER_IDS[0],
            "default_material_group": "L001",
        }

    @property
    def endpoint_secrets(self) -> dict[str, str]:
        """The secrets of such an endpoint."""
        return {"password": self.credentials.password, "webhook_secret": self.webhook_secret}

    def rows(self, entity_set: str, **equal: Any) -> list[Row]:
        """The records of an entity set whose fields have these values, in the order of creation."""
        kind = _set_named(entity_set)
        return [row for row in self.api.store.rows(kind) if all(row[name] == value for name, value in equal.items())]

    def change(self, entity_set: str, key: dict[str, str], *, user: str = BUYER, **fields: Any) -> Row:
        """Change a record as a user of the system would, tell the webhook, and return the record.

        `fields` are values as JSON has them. Raises ODataError.
        """
        kind = _set_named(entity_set)
        known = self.api.store.get(kind, {**empty_row(kind), **key})
        if known is None:
            raise not_found(f"segment '{entity_set}'")
        if unknown := fields.keys() - kind.fields.keys():
            raise bad_request(f"Property {unknown.pop()} is invalid for {entity_set}.")
        return self.api.change_as_user(kind, {name: known[name] for name in kind.keys}, fields, user)

    def start_anew(self) -> None:
        """Go back to no documents, no sessions, and the cost centers that are there from the start."""
        self.accounts.revoke_tokens()
        self.accounts.expire_sessions()
        self.api = ODataApi(effects=self.effect_log, clock=self._clock)
        self.api.on_write = self._tell_webhook
        kind = entity_set_of(COST_CENTERS, "A_CostCenter")
        for name in COST_CENTER_IDS:
            row = {
                **empty_row(kind),
                "ControllingArea": CONTROLLING_AREA,
                "CostCenter": name,
                "CompanyCode": "1010",
                "CostCenterCurrency": "EUR",
                "ValidityStartDate": datetime(2020, 1, 1, tzinfo=UTC),
                "ValidityEndDate": datetime(9999, 12, 31, tzinfo=UTC),
                "IsBlkdForPrimaryCostsPosting": "X" if name == "CC-BLOCKED" else "",
            }
            self.api.store.put(kind, row, now=self._clock())

    def restore(self, effect: Effect) -> None:
        """Carry out a logged write again."""
        self.api.replay(effect)

    def respond(self, request: ApiRequest) -> ApiResponse:
        """The proper answer to a request."""
        authorization = request.headers.get("Authorization", "")
        if request.path == TOKEN_PATH and request.method == "POST":
            return self.accounts.grant(request.body, authorization)
        if not request.path.startswith(f"{ROOT}/"):
            return ApiResponse(status=404, body=b"<html>404 Not found</html>", headers={"Content-Type": "text/html"})
        user = self.accounts.user_of(authorization)
        if user is None:
            return logon_failed()
        request = msgspec.structs.replace(request, user=user)
        if request.method in WRITES and not self.accounts.may_write(request):
            return token_required()
        response = self._call_api(request)
        if request.headers.get("X-CSRF-Token", "").casefold() == "fetch":
            return self._with_token(request, response)
        return response

    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        """The system's own words for each kind of trouble."""
        delay_s = trouble.delay_s or 0.0
        match trouble.kind:
            case "unauthorized":
                return logon_failed()
            case "rate_limit":
                headers = {"Retry-After": str(int(delay_s))}
                return ODataError(429, "POLICY_ERROR", "Too many requests", headers=headers).response
            case "server_error":
                return ODataError(trouble.status, "/IWBEP/CX_MGW_TECH_EXCEPTION", "An exception was raised").response
            case "csrf_expired":
                self.accounts.expire_sessions()
                return self.respond(request)
            case "stale_etag":
                return stale().response
            case "locked":
                return locked().response
            case "busy":
                return busy(delay_s).response
            case _:
                return ApiResponse(status=200, body=LOGON_PAGE, headers={"Content-Type": "text/html"})

    def records(self, request: ApiRequest) -> Any:
        """How many records each entity set has, or those of one, by external reference where one is asked for."""
        name, reference = request.query.get("entity_set"), request.query.get("reference")
        if name is None:
            sets = [kind for service in services().values() for kind in service.sets.values()]
            return {"counts": {kind.name: len(list(self.api.store.rows(kind))) for kind in sets}}
        kind = _set_named(name)
        found = [row for row in self.rows(name) if reference is None or reference in _references(row)]
        return {"count": len(found), "records": [_as_json(kind, row) for row in found]}

    def change_by_user(self, request: ApiRequest) -> Any:
        """Carry out a change by a user of the system."""
        change = msgspec.json.decode(request.body, type=Change)
        name, key = change.entity_set, change.key
        if change.reference:
            name, key = self._by_reference(change.reference)
        row = self.change(name, key, user=change.user, **change.fields)
        return {"result": _as_json(_set_named(name), row)}

    def _by_reference(self, reference: str) -> tuple[str, dict[str, str]]:
        for name in ("MaintenanceNotification", "A_PurchaseRequisitionItem", "A_MaterialDocumentHeader"):
            for row in self.rows(name):
                if reference in _references(row):
                    return name, {key: row[key] for key in _set_named(name).keys}
        raise not_found(f"external reference {reference}")

    def _revoke_tokens(self, request: ApiRequest) -> Any:
        self.accounts.revoke_tokens()
        return {"status": "ok"}

    def _expire_sessions(self, request: ApiRequest) -> Any:
        self.accounts.expire_sessions()
        return {"status": "ok"}

    def _call_api(self, request: ApiRequest) -> ApiResponse:
        if request.method == "POST" and request.path.endswith(batch.SEGMENT):
            return batch.handle(request, self.api)
        return self.api.handle(request)

    def _with_token(self, request: ApiRequest, response: ApiResponse) -> ApiResponse:
        known = self.accounts.csrf_of(request.headers)
        session, token = known or self.accounts.new_session()
        cookies = () if known else (f"{COOKIE}={session}; path=/; HttpOnly",)
        return msgspec.structs.replace(
            response, headers={**response.headers, "x-csrf-token": token}, cookies=(*response.cookies, *cookies)
        )

    def _tell_webhook(self, effect: Effect, row: Row) -> None:
        """Tell of a changed notification or requisition, in the form that the README gives."""
        document = _TOLD.get((effect.service, effect.entity_set))
        if document is None or not self.webhooks.wants(is_api_write=effect.method != CHANGE):
            return
        kind = entity_set_of(effect.service, effect.entity_set)
        data = {"entity_set": kind.name, "changed_by": effect.user, **_as_json(kind, row)}
        self.webhooks.tell({"type": f"{document}.changed", "timestamp": effect.time, "data": data})


_TOLD = {
    (NOTIFICATIONS, "MaintenanceNotification"): "notification",
    (REQUISITIONS, "A_PurchaseRequisitionItem"): "requisition",
}


@asynccontextmanager
async def run_simulator(
    options: Options | None = None, *, clock: Callable[[], datetime] = system_clock
) -> AsyncIterator[Simulator]:
    """Run a simulator in this process, for the length of an `async with` block."""
    async with running(Simulator(options or Options(), clock=clock)) as simulator:
        yield simulator


async def start_simulator(host: str, port: int, state_file: Path | None = None) -> Simulator:
    """Start a simulator on a host and port (0: any free one), with made-up credentials; the caller stops it.

    The TLS port is the one after `port`. Records are restored from `state_file`, and effects appended to it.
    """
    return await started(Simulator(Options(host=host, port=port, tls_port=port and port + 1, state_file=state_file)))


def _set_named(name: str) -> EntitySet:
    for service in services().values():
        if name in service.sets:
            return service.sets[name]
    raise not_found(f"segment '{name}'")


def _references(row: Row) -> list[str]:
    return [row[name] for name in REFERENCES if row.get(name)]


def _as_json(kind: EntitySet, row: Row) -> dict[str, Any]:
    return {name: encoded(field, row.get(name)) for name, field in kind.fields.items()}
