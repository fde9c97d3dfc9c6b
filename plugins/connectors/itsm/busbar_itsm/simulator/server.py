"""The running simulator: authentication, the rate limit and the webhook around the Table API."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import connector_simulation
from busbar_itsm.simulator import batch
from busbar_itsm.simulator.accounts import Accounts, Credentials
from busbar_itsm.simulator.control import Change, RateLimitRule
from busbar_itsm.simulator.effects import Effect
from busbar_itsm.simulator.incidents import RuleBroken
from busbar_itsm.simulator.messages import ApiError, not_found, unauthorized
from busbar_itsm.simulator.rate_limit import RateLimit
from busbar_itsm.simulator.records import Row, UnknownTable
from busbar_itsm.simulator.table_api import CHANGE, TableApi
from connector_simulation import (
    ApiRequest,
    ApiResponse,
    Misbehaviour,
    SimulatorServer,
    running,
    started,
    system_clock,
)

TOKEN_PATH = "/oauth_token.do"  # noqa: S105 - a path, not a token
SERVICE_DESK = "service.desk"
HIBERNATION_PAGE = (
    b"<!DOCTYPE html><html><head><title>Instance Hibernating</title></head>"
    b"<body><h1>Your instance is hibernating</h1></body></html>"
)
_TOLD = ("number", "correlation_id", "state", "close_code", "close_notes", "hold_reason", "priority")


class Options(connector_simulation.Options, frozen=True, kw_only=True):
    """How the simulator starts, and what a reset goes back to."""

    credentials: Credentials = msgspec.field(default_factory=Credentials)
    token_life_s: int = 1799
    rate_limit: int | None = None
    """Requests per user and window; None: no limit."""
    rate_limit_window_s: int = 3600


class Simulator(SimulatorServer[Effect]):
    """One simulated instance, run by `run_simulator` or `start_simulator`; `url`, `tls_url` and `ca_file` say where."""

    NAME = "ServiceNow-compatible simulator"
    API_PATH = "/api/"

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = system_clock) -> None:
        super().__init__(options, Effect, clock=clock)
        self.credentials = options.credentials
        self.accounts = Accounts(options.credentials, token_life_s=options.token_life_s, clock=clock)
        self._options = options
        self._rate_limit: RateLimit | None = None
        self.control.handlers |= {
            ("POST", "rate-limit"): self._change_rate_limit,
            ("POST", "revoke-tokens"): self._revoke_tokens,
        }
        self.start_anew()

    @property
    def rate_limit_rule(self) -> dict[str, int] | None:
        rule = self._rate_limit
        return None if rule is None else {"requests_max": rule.requests_max, "window_s": rule.window_s}

    @property
    def endpoint_settings(self) -> dict[str, str]:
        """The settings of a client's endpoint that reaches this simulator."""
        return {"base_url": self.url, "username": self.credentials.username}

    @property
    def endpoint_secrets(self) -> dict[str, str]:
        """The secrets of such an endpoint."""
        return {"password": self.credentials.password, "webhook_secret": self.webhook_secret}

    def incidents(self, correlation_id: str | None = None) -> list[Row]:
        """All incidents, or those with a correlation_id, in the order of creation."""
        rows = self.api.records.rows("incident")
        if correlation_id is None:
            return list(rows.by_sys_id.values())
        return list(rows.where("correlation_id", correlation_id) or ())

    def set_rate_limit(self, requests_max: int | None, *, window_s: int = 3600) -> None:
        """Allow each user so many requests per window from now on; None: no limit."""
        self._rate_limit = (
            None if requests_max is None else RateLimit(requests_max, window_s=window_s, clock=self._clock)
        )

    def change(
        self,
        *,
        fields: Mapping[str, Any],
        sys_id: str = "",
        correlation_id: str = "",
        table: str = "incident",
        user: str = SERVICE_DESK,
    ) -> Row:
        """Change a record as a ServiceNow user would, tell the webhook, and return the record.

        Raises UnknownTable, KeyError if there is no such record, RuleBroken.
        """
        if not sys_id:
            rows = self.api.records.rows(table)
            row = next(rows.where("correlation_id", correlation_id) or iter(()), None)
            if row is None:
                raise KeyError(correlation_id)
            sys_id = row["sys_id"]
        return self.api.write(CHANGE, table, sys_id, fields, user=user, request_correlation_id="").row

    async def wait_for_effects(
        self, count: int, *, timeout_s: float = 10.0, method: str | None = None, correlation_id: str | None = None
    ) -> list[Effect]:
        """Return the matching effects as soon as there are `count`. Raises TimeoutError."""
        wanted = {"method": method, "correlation_id": correlation_id}
        return await self.effect_log.wait(count, wanted, timeout_s=timeout_s)

    def start_anew(self) -> None:
        """Go back to no records, no tokens, and the rate limit of the options."""
        self.accounts.revoke_tokens()
        self.set_rate_limit(self._options.rate_limit, window_s=self._options.rate_limit_window_s)
        self.api = TableApi(effects=self.effect_log, clock=self._clock)
        self.api.on_write = self._tell_webhook
        users = ((self.credentials.username, "Busbar Integration"), (SERVICE_DESK, "Service Desk"))
        for n, (user_name, name) in enumerate(users, start=1):
            # They exist from the start, so that opened_by and closed_by refer to records; the ids outlive a restart.
            fields = {"user_name": user_name, "name": name, "active": True}
            self.api.records.insert("sys_user", fields, user="system", now=self._clock(), sys_id=f"{n:032x}")

    def restore(self, effect: Effect) -> None:
        """Carry out a logged write again."""
        self.api.replay(effect)

    def respond(self, request: ApiRequest) -> ApiResponse:
        """The proper answer to a request."""
        authorization = request.headers.get("Authorization", "")
        if request.path == TOKEN_PATH and request.method == "POST":
            return self.accounts.grant(request.body, authorization)
        if not request.path.startswith("/api/now/"):
            return ApiError(400, "Requested URI does not represent any resource").response
        try:
            user = self.accounts.user_of(authorization)
        except ApiError as error:
            return error.response
        request = msgspec.structs.replace(request, user=user)
        if self._rate_limit is None:
            return self._call_api(request)
        allowed, limit_headers = self._rate_limit.count(user)
        if not allowed:
            return ApiError(429, "Rate limit exceeded", headers=limit_headers).response
        response = self._call_api(request)
        return msgspec.structs.replace(response, headers={**response.headers, **limit_headers})

    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        """The instance's own words for each kind of trouble."""
        if trouble.kind == "unauthorized":
            return unauthorized().response
        if trouble.kind == "rate_limit":
            headers = {"Retry-After": str(int(trouble.delay_s or 0))}
            return ApiError(429, "Rate limit exceeded", headers=headers).response
        if trouble.kind == "server_error":
            return ApiError(trouble.status, "Transaction failed", "The simulator was told to fail").response
        return ApiResponse(status=200, body=HIBERNATION_PAGE, headers={"Content-Type": "text/html"})

    def status(self) -> dict[str, Any]:
        """The rate limit, beside what every simulator says."""
        return {"rate_limit": self.rate_limit_rule}

    def records(self, request: ApiRequest) -> Any:
        """How many records there are, or the incidents of one correlation_id."""
        wanted = request.query.get("correlation_id")
        if wanted is not None:
            found = self.incidents(wanted)
            return {"count": len(found), "records": found}
        tables = self.api.records.tables
        return {
            "count": len(tables["incident"].by_sys_id),
            "shared_correlation_ids": tables["incident"].shared_values("correlation_id"),
            "tables": {name: len(rows.by_sys_id) for name, rows in tables.items()},
        }

    def change_by_user(self, request: ApiRequest) -> Any:
        """Carry out a change by a ServiceNow user, who is bound by the rules too."""
        change = msgspec.json.decode(request.body, type=Change)
        try:
            return {"result": self.change(**msgspec.structs.asdict(change))}
        except KeyError:
            raise not_found() from None
        except UnknownTable as error:
            raise ApiError(400, f"Invalid table {error}") from None
        except RuleBroken as broken:
            raise ApiError(403, "Operation Failed", str(broken)) from None

    def _change_rate_limit(self, request: ApiRequest) -> Any:
        rule = msgspec.json.decode(request.body, type=RateLimitRule)
        self.set_rate_limit(rule.requests_max, window_s=rule.window_s)
        return {"rate_limit": self.rate_limit_rule}

    def _revoke_tokens(self, request: ApiRequest) -> Any:
        self.accounts.revoke_tokens()
        return {"status": "ok"}

    def _tell_webhook(self, effect: Effect, row: Row) -> None:
        """Tell of a changed incident, as the business rule in the README does."""
        if effect.table != "incident" or not self.webhooks.wants(is_api_write=effect.method != CHANGE):
            return
        data: dict[str, object] = {"table": effect.table, "sys_id": effect.sys_id}
        data |= {name: row[name] for name in _TOLD}
        data |= {name: row[name] for name in ("sys_updated_on", "sys_updated_by", "sys_mod_count")}
        data |= {"comments": str(effect.fields.get("comments") or ""), "changed": effect.changed}
        kind = {"POST": "incident.created", "DELETE": "incident.deleted"}.get(effect.method, "incident.updated")
        self.webhooks.tell({"type": kind, "timestamp": effect.time, "data": data})

    def _call_api(self, request: ApiRequest) -> ApiResponse:
        if request.path in batch.PATHS:
            return batch.handle(request, self.api.handle)
        return self.api.handle(request)


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
