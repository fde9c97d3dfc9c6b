"""The running simulator: it listens on plain HTTP and TLS, and puts authentication and misbehaviour before the API."""

import asyncio
import base64
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from busbar_itsm.simulator import batch, control
from busbar_itsm.simulator.accounts import Accounts, Credentials
from busbar_itsm.simulator.certificate import make_server_context
from busbar_itsm.simulator.effects import Effect, EffectLog
from busbar_itsm.simulator.messages import ApiError, ApiRequest, ApiResponse, unauthorized
from busbar_itsm.simulator.misbehaviour import Misbehaviour, Misbehaviours, RateLimit
from busbar_itsm.simulator.records import Row
from busbar_itsm.simulator.table_api import CHANGE, TableApi
from busbar_itsm.simulator.webhook import RETRY_DELAYS_S, SECRET_PREFIX, Webhook, WebhookSender

TOKEN_PATH = "/oauth_token.do"  # noqa: S105 - a path, not a token
SHUTDOWN_TIMEOUT_S = 1.0
SERVICE_DESK = "service.desk"
HIBERNATION_PAGE = (
    b"<!DOCTYPE html><html><head><title>Instance Hibernating</title></head>"
    b"<body><h1>Your instance is hibernating</h1></body></html>"
)


def system_clock() -> datetime:
    return datetime.now(UTC)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a simulator starts, and what a reset goes back to."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port; so for `tls_port`."""
    tls_port: int | None = 0
    """None: no TLS."""
    ca_file: Path | None = None
    """Where the certificate is written; a temporary file unless given."""
    hostnames: tuple[str, ...] = ()
    """Further names and addresses for the certificate."""
    state_file: Path | None = None
    """Effect log as JSON Lines; records are restored from it at start."""
    credentials: Credentials = msgspec.field(default_factory=Credentials)
    token_life_s: int = 1799
    rate_limit: int | None = None
    """Requests per user and window; None: no limit."""
    rate_limit_window_s: int = 3600
    webhook: Webhook | None = None
    webhook_retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S


class Simulator:
    """One simulated instance, run by `run_simulator` or `start_simulator`; `url`, `tls_url` and `ca_file` say where."""

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = system_clock) -> None:
        self.url = ""
        self.tls_url = ""
        self.ca_file = options.ca_file
        self.requests = 0
        """Requests so far, those to the control API not counted."""
        self.credentials = options.credentials
        self.effect_log = EffectLog(options.state_file)
        self.misbehaviours = Misbehaviours()
        self.accounts = Accounts(options.credentials, token_life_s=options.token_life_s, clock=clock)
        self.webhooks = WebhookSender(clock=clock, retry_delays_s=options.webhook_retry_delays_s)
        self.api = TableApi(effects=self.effect_log, clock=clock)
        self._options = options
        self._clock = clock
        self._rate_limit: RateLimit | None = None
        self._closing = asyncio.Event()
        self._webhook_secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        self._runner = web.ServerRunner(web.Server(self.answer, access_log=None), shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        self._restart_settings()
        self._new_records()

    @property
    def effects(self) -> list[Effect]:
        """Every write that was carried out, in order."""
        return self.effect_log.effects

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
        return {"password": self.credentials.password, "webhook_secret": self._webhook_secret}

    def tell(self, address: str) -> None:
        """Send what simulated users change to `address`, signed with the endpoint's `webhook_secret`."""
        self.set_webhook(address, self._webhook_secret)

    def incidents(self, correlation_id: str | None = None) -> list[Row]:
        """All incidents, or those with a correlation_id, in the order of creation."""
        rows = self.api.records.rows("incident")
        if correlation_id is None:
            return list(rows.by_sys_id.values())
        return list(rows.where("correlation_id", correlation_id) or ())

    def misbehave(
        self,
        kind: str,
        *,
        count: int | None = None,
        status: int = 503,
        delay_s: float | None = None,
        path_contains: str = "",
        method: str | None = None,
    ) -> None:
        """Switch on a misbehaviour, for `count` requests or until `behave`; see Misbehaviour."""
        self.misbehaviours.add(
            Misbehaviour(
                kind=kind, count=count, status=status, delay_s=delay_s, path_contains=path_contains, method=method
            )
        )

    def behave(self) -> None:
        """Switch off every misbehaviour."""
        self.misbehaviours.clear()

    def set_rate_limit(self, requests_max: int | None, *, window_s: int = 3600) -> None:
        """Allow each user so many requests per window from now on; None: no limit."""
        self._rate_limit = (
            None if requests_max is None else RateLimit(requests_max, window_s=window_s, clock=self._clock)
        )

    def set_webhook(self, url: str, secret: str, *, api_writes: bool = False) -> None:
        """Send changes of incidents to `url`, signed with `secret`. Raises ValueError for a bad secret."""
        self.webhooks.configure(Webhook(url=url, secret=secret, api_writes=api_writes))

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
        return await self.effect_log.wait(count, timeout_s=timeout_s, method=method, correlation_id=correlation_id)

    def reset(self) -> None:
        """Go back to the state of a first start: no records, effects or misbehaviours; the state file is emptied."""
        self.effect_log.clear()
        self.requests = 0
        self.misbehaviours.clear()
        self.accounts.revoke_tokens()
        self.webhooks.deliveries.clear()
        self._restart_settings()
        self._new_records()

    def _restart_settings(self) -> None:
        self.set_rate_limit(self._options.rate_limit, window_s=self._options.rate_limit_window_s)
        self.webhooks.configure(self._options.webhook)

    def _new_records(self) -> None:
        self.api = TableApi(effects=self.effect_log, clock=self._clock)
        self.api.on_write = self._tell_webhook
        users = ((self.credentials.username, "Busbar Integration"), (SERVICE_DESK, "Service Desk"))
        for n, (user_name, name) in enumerate(users, start=1):
            # They exist from the start, so that opened_by and closed_by refer to records; the ids outlive a restart.
            fields = {"user_name": user_name, "name": name, "active": True}
            self.api.records.insert("sys_user", fields, user="system", now=self._clock(), sys_id=f"{n:032x}")

    def _tell_webhook(self, effect: Effect, row: Row) -> None:
        comments = str(effect.fields.get("comments") or "")
        self.webhooks.tell(effect, row, comments=comments, is_api_write=effect.method != CHANGE)

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request; the handler of the server."""
        request = ApiRequest(
            method=http.method,
            path=http.path,
            query=http.query,
            headers=http.headers,
            body=await http.read() if http.can_read_body else b"",
            base_url=f"{http.scheme}://{http.host}",
            user="",
        )
        if request.path.startswith(control.PREFIX):
            return _http(control.handle(self, request))
        self.requests += 1
        trouble = self.misbehaviours.take(request.method, http.raw_path)
        if trouble is None:
            return _http(self._respond(request))
        return await self._answer_badly(http, request, trouble)

    async def _answer_badly(
        self, http: web.BaseRequest, request: ApiRequest, trouble: Misbehaviour
    ) -> web.StreamResponse:
        delay_s = trouble.delay_s or 0.0
        if trouble.kind == "unauthorized":
            return _http(unauthorized().response)
        if trouble.kind == "rate_limit":
            headers = {"Retry-After": str(int(delay_s))}
            return _http(ApiError(429, "Rate limit exceeded", headers=headers).response)
        if trouble.kind == "server_error":
            return _http(ApiError(trouble.status, "Transaction failed", "The simulator was told to fail").response)
        if trouble.kind == "wrong_body":
            return web.Response(body=HIBERNATION_PAGE, content_type="text/html")
        if trouble.kind == "slow":
            await self._pause(delay_s)
            return _http(self._respond(request))
        if trouble.kind == "timeout_after_effect":
            self._respond(request)
            await self._pause(delay_s)
        # Both "down" and a timeout end without an answer: the connection is cut.
        if http.transport is not None:
            http.transport.abort()
        return web.Response(status=503)

    async def _pause(self, delay_s: float) -> None:
        """Wait, but not longer than the simulator runs."""
        try:
            await asyncio.wait_for(self._closing.wait(), delay_s)
        except TimeoutError:
            return

    def _respond(self, request: ApiRequest) -> ApiResponse:
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

    def _call_api(self, request: ApiRequest) -> ApiResponse:
        if request.path in batch.PATHS:
            return batch.handle(request, self.api.handle)
        return self.api.handle(request)

    async def start(self) -> None:
        """Restore the records of an earlier run, and listen."""
        for effect in self.effect_log.open():
            self.api.replay(effect)
        runner = self._runner
        await runner.setup()
        host = self._options.host
        await web.TCPSite(runner, host, self._options.port).start()
        self.url = f"http://{_authority(runner, 0)}"
        if self._options.tls_port is not None:
            if self.ca_file is None:
                self.ca_file = Path(tempfile.mkdtemp(prefix="itsm-simulator-")) / "ca.pem"
            context = make_server_context(self.ca_file, (*self._options.hostnames, host))
            await web.TCPSite(runner, host, self._options.tls_port, ssl_context=context).start()
            self.tls_url = f"https://{_authority(runner, 1)}"

    async def stop(self) -> None:
        """Stop listening, end what is being answered, and close the state file."""
        self._closing.set()
        await self._runner.cleanup()
        await self.webhooks.close()
        self.effect_log.close()
        if self._options.ca_file is None and self.ca_file is not None:
            self.ca_file.unlink(missing_ok=True)
            self.ca_file.parent.rmdir()


@asynccontextmanager
async def run_simulator(
    options: Options | None = None, *, clock: Callable[[], datetime] = system_clock
) -> AsyncIterator[Simulator]:
    """Run a simulator in this process, for the length of an `async with` block."""
    simulator = Simulator(options or Options(), clock=clock)
    try:
        await simulator.start()
        yield simulator
    finally:
        await simulator.stop()


async def start_simulator(host: str, port: int, state_file: Path | None = None) -> Simulator:
    """Start a simulator on a host and port (0: any free one), with made-up credentials; the caller stops it.

    The TLS port is the one after `port`. Records are restored from `state_file`, and effects appended to it.
    """
    simulator = Simulator(Options(host=host, port=port, tls_port=port and port + 1, state_file=state_file))
    try:
        await simulator.start()
    except BaseException:
        await simulator.stop()
        raise
    return simulator


def _authority(runner: web.ServerRunner, site: int) -> str:
    """Host and port that a site listens on, as clients on this machine reach it."""
    host, port = runner.addresses[site][:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _http(response: ApiResponse) -> web.Response:
    return web.Response(status=response.status, body=response.body or None, headers=response.headers)
