"""The running simulator: sessions, the quota, composite requests and the webhook around the REST API."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import connector_simulation
from busbar_crm.simulator import composite
from busbar_crm.simulator.accounts import AGENT_ID, INTEGRATION_USER_ID, Accounts, Credentials
from busbar_crm.simulator.effects import Effect
from busbar_crm.simulator.messages import ApiError, expired_session, not_found
from busbar_crm.simulator.objects import CASE, EXTERNAL_ID_FIELD, OBJECTS
from busbar_crm.simulator.quota import Quota
from busbar_crm.simulator.records import Row
from busbar_crm.simulator.rest_api import RestApi
from connector_simulation import ApiRequest, ApiResponse, Misbehaviour, SimulatorServer, running, started, system_clock

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105 - a path, not a token
QUOTA = 100_000
MAINTENANCE_PAGE = (
    b"<!DOCTYPE html><html><head><title>Scheduled Maintenance</title></head><body>We are down.</body></html>"
)
AGENT = "service.agent@utility.example"

_COLLECTION = re.compile(r"(/services/data/v\d{2,3}\.0)/composite/sobjects(?:/([^/]+)/([^/]+))?/?")
_COMPOSITE = re.compile(r"/services/data/v\d{2,3}\.0/composite/?")


class Options(connector_simulation.Options, frozen=True, kw_only=True):
    """How the simulator starts, and what a reset goes back to."""

    credentials: Credentials = msgspec.field(default_factory=Credentials)
    public_key: str | None = None
    """PEM of the client app's certificate or public key; without it JWT bearer is refused."""
    session_life_s: int = 7200
    quota: int = QUOTA
    """API requests of the organization in 24 hours."""
    tracks_status: bool = True
    """Whether field history tracking is on for Status of Case."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person does to a Case, which is named by id or external id: change fields, comment, or delete it."""

    id: str = ""
    external_id: str = ""
    fields: dict[str, Any] = {}
    comment: str = ""
    delete: bool = False


class QuotaRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /_simulator/quota."""

    requests_max: int


class Simulator(SimulatorServer[Effect]):
    """One simulated organization; `url`, `tls_url` and `ca_file` say where."""

    NAME = "Salesforce-compatible simulator"
    API_PATH = "/services/data/"
    KINDS: Mapping[str, float] = {
        **connector_simulation.KINDS,
        "expired_session": 0.0,
        "locked": 0.0,
        "partial_failure": 0.0,
    }
    """`expired_session` ends all sessions once, `locked` is UNABLE_TO_LOCK_ROW, `partial_failure` lets the last part
    of a composite request fail."""

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = system_clock) -> None:
        super().__init__(options, Effect, clock=clock)
        self.credentials = options.credentials
        self.accounts = Accounts(
            options.credentials, public_key=options.public_key, session_life_s=options.session_life_s, clock=clock
        )
        self._options = options
        self.control.handlers |= {
            ("POST", "quota"): self._change_quota,
            ("POST", "end-sessions"): self._end_sessions,
        }
        self.start_anew()

    @property
    def endpoint_settings(self) -> dict[str, str]:
        """The settings of a client's endpoint that reaches this simulator."""
        return {"base_url": self.url, "client_id": self.credentials.client_id, "username": self.credentials.username}

    @property
    def endpoint_secrets(self) -> dict[str, str]:
        """The secrets of such an endpoint."""
        return {"client_secret": self.credentials.client_secret, "webhook_secret": self.webhook_secret}

    def cases(self, external_id: str | None = None) -> list[Row]:
        """All Cases, or those with an external id, in the order of creation."""
        rows = self.api.records.tables["Case"].values()
        return [row for row in rows if external_id in (None, row[EXTERNAL_ID_FIELD])]

    def comments(self, external_id: str) -> list[str]:
        """The comments on the Cases with an external id, oldest first."""
        ids = {row["Id"] for row in self.cases(external_id)}
        return [row["CommentBody"] for row in self.api.records.tables["CaseComment"].values() if row["ParentId"] in ids]

    def change(
        self,
        *,
        id: str = "",
        external_id: str = "",
        fields: Mapping[str, Any] | None = None,
        comment: str = "",
        delete: bool = False,
    ) -> Row:
        """Change a Case as a service agent would, tell the webhook, and return the Case. Raises ApiError."""
        found = self.cases(external_id) if external_id else [self.api.records.get(CASE, id)]
        if not found:
            raise not_found()
        row = found[0]
        try:
            if delete:
                self.api.write("REMOVE", CASE, row["Id"], {}, user=AGENT_ID, correlation_id="")
            if fields:
                row = self.api.write("CHANGE", CASE, row["Id"], fields, user=AGENT_ID, correlation_id="").row
            if comment:
                said = {"ParentId": row["Id"], "CommentBody": comment}
                self.api.write("COMMENT", OBJECTS["casecomment"], None, said, user=AGENT_ID, correlation_id="")
        finally:
            self.api.commit()
        return row

    def set_quota(self, requests_max: int) -> None:
        """Allow so many API requests in 24 hours; those of the last 24 hours count. Raises ValueError."""
        self.api.quota.allow(requests_max)

    async def wait_for_effects(self, count: int, *, timeout_s: float = 10.0, **wanted: str) -> list[Effect]:
        """Return the effects with these fields as soon as there are `count`. Raises TimeoutError."""
        return await self.effect_log.wait(count, wanted, timeout_s=timeout_s)

    def start_anew(self) -> None:
        """Go back to no records, no sessions, and the quota of the options."""
        self.accounts.end_sessions()
        quota = Quota(self._options.quota, clock=self._clock)
        self.api = RestApi(effects=self.effect_log, clock=self._clock, quota=quota)
        self.api.on_write = self._tell_webhook
        records = self.api.records
        users = (
            (INTEGRATION_USER_ID, self.credentials.username, "Busbar Integration"),
            (AGENT_ID, AGENT, "Service Agent"),
        )
        for user_id, username, name in users:
            records.seed(OBJECTS["user"], user_id, Username=username, Name=name, Email=username)
        records.seed(OBJECTS["entitydefinition"], "Case", QualifiedApiName="Case")
        for field in CASE.fields.values():
            tracked = field.name == "Status" and self._options.tracks_status
            records.seed(
                OBJECTS["fielddefinition"],
                f"Case.{field.name}",
                QualifiedApiName=field.name,
                EntityDefinitionId="Case",
                IsFieldHistoryTracked=tracked,
            )

    def restore(self, effect: Effect) -> None:
        """Carry out a logged write again."""
        self.api.replay(effect)

    def respond(self, request: ApiRequest) -> ApiResponse:
        """The proper answer to a request."""
        return self._respond(request)

    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        """The organization's own words for each kind of trouble."""
        if trouble.kind == "unauthorized":
            return expired_session().response
        if trouble.kind == "rate_limit":
            return ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").response
        if trouble.kind == "server_error":
            return ApiError(trouble.status, "SERVER_UNAVAILABLE", "The simulator was told to fail").response
        if trouble.kind == "locked":
            return ApiError(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record").response
        if trouble.kind == "expired_session":
            self.accounts.end_sessions()
            return self._respond(request)
        if trouble.kind == "partial_failure":
            return self._respond(request, fail_last=True)
        return ApiResponse(status=200, body=MAINTENANCE_PAGE, headers={"Content-Type": "text/html"})

    def status(self) -> dict[str, Any]:
        """The quota, beside what every simulator says."""
        return {"quota": {"requests_max": self.api.quota.requests_max, "used": self.api.quota.used}}

    def records(self, request: ApiRequest) -> Any:
        """How many records there are, or the Cases of one external id with their comments."""
        wanted = request.query.get("external_id")
        if wanted is not None:
            found = self.cases(wanted)
            return {"count": len(found), "records": found, "comments": self.comments(wanted)}
        tables = self.api.records.tables
        return {
            "count": len(tables["Case"]),
            "shared_external_ids": self.api.records.shared_external_ids(),
            "objects": {name: len(rows) for name, rows in tables.items()},
        }

    def change_by_user(self, request: ApiRequest) -> Any:
        """Carry out a change by a service agent, who is bound by the rules too."""
        change = msgspec.json.decode(request.body, type=Change)
        return {"result": self.change(**msgspec.structs.asdict(change))}

    def _respond(self, request: ApiRequest, *, fail_last: bool = False) -> ApiResponse:
        if request.path == TOKEN_PATH and request.method == "POST":
            return self.accounts.grant(request)
        if not request.path.startswith("/services/data"):
            return not_found().response
        if request.path.rstrip("/") == "/services/data":
            return self.api.handle(request)
        try:
            user = self.accounts.user_of(request.headers.get("Authorization", ""))
        except ApiError as error:
            return error.response
        if not self.api.quota.count():
            response = ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").response
        else:
            response = self._call_api(msgspec.structs.replace(request, user=user), fail_last=fail_last)
        return msgspec.structs.replace(response, headers={**response.headers, **self.api.quota.header})

    def _call_api(self, request: ApiRequest, *, fail_last: bool) -> ApiResponse:
        if _COMPOSITE.fullmatch(request.path):
            return composite.handle(self.api, request, fail_last=fail_last)
        if match := _COLLECTION.fullmatch(request.path):
            names = [name for name in match.groups()[1:] if name]
            return composite.handle_collection(self.api, request, names)
        return self.api.handle(request)

    def _change_quota(self, request: ApiRequest) -> Any:
        self.set_quota(msgspec.json.decode(request.body, type=QuotaRule).requests_max)
        return self.status()

    def _end_sessions(self, request: ApiRequest) -> Any:
        self.accounts.end_sessions()
        return {"status": "ok"}

    def _tell_webhook(self, effect: Effect, row: Row) -> None:
        """Tell of a changed Case or a new comment, as the trigger in the how-to does."""
        is_api_write = effect.method not in ("CHANGE", "COMMENT", "REMOVE")
        if not self.webhooks.wants(is_api_write=is_api_write):
            return
        tables = self.api.records.tables
        if effect.object == "CaseComment":
            kind, case, comment = "case.commented", tables["Case"].get(row["ParentId"]), row["CommentBody"]
        else:
            kinds = {"POST": "case.created", "DELETE": "case.deleted", "REMOVE": "case.deleted"}
            kind, case, comment = kinds.get(effect.method, "case.updated"), row, ""
        if case is None:
            return
        data = {
            "id": case["Id"],
            "busbar_id": case[EXTERNAL_ID_FIELD] or "",
            "case_number": case["CaseNumber"],
            "status": case["Status"],
            "comment": comment or "",
            "changed_by": tables["User"][effect.user]["Username"],
            "changed": effect.changed,
        }
        self.webhooks.tell({"type": kind, "timestamp": effect.time, "data": data})


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
