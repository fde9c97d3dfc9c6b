"""The server of a simulator: it listens on HTTP and TLS, and puts the control API and misbehaviour before the API."""

import asyncio
import base64
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from connector_simulation.certificate import make_server_context
from connector_simulation.control import PREFIX, ControlApi
from connector_simulation.effects import E, EffectLog
from connector_simulation.messages import ApiRequest, ApiResponse
from connector_simulation.misbehaviour import KINDS, Misbehaviour, Misbehaviours
from connector_simulation.webhook import RETRY_DELAYS_S, SECRET_PREFIX, Webhook, WebhookSender

SHUTDOWN_TIMEOUT_S = 1.0


def system_clock() -> datetime:
    return datetime.now(UTC)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a simulator starts, and what a reset goes back to; a simulator derives its own with what else it takes."""

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
    webhook: Webhook | None = None
    webhook_retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S


class SimulatorServer(ABC, Generic[E]):
    """One simulated system, run by `running` or by `start` and `stop`; `url`, `tls_url` and `ca_file` say where.

    A simulator derives from it, calls `start_anew` at the end of its own constructor, and says what the abstract
    methods ask. What it adds to `control.handlers` becomes part of its control API.
    """

    NAME = "Simulator"
    """Stands in the certificate."""
    KINDS: Mapping[str, float] = KINDS
    """Kinds of misbehaviour and their default delays in seconds."""
    API_PATH = "/"
    """What the paths of the API proper contain, those of the token endpoint not."""

    def __init__(self, options: Options, effect: type[E], *, clock: Callable[[], datetime] = system_clock) -> None:
        self.url = ""
        self.tls_url = ""
        self.ca_file = options.ca_file
        self.requests = 0
        """Requests so far, those to the control API not counted."""
        self.effect_log: EffectLog[E] = EffectLog(effect, options.state_file)
        self.misbehaviours = Misbehaviours(self.KINDS, api_path=self.API_PATH)
        self.webhooks = WebhookSender(clock=clock, retry_delays_s=options.webhook_retry_delays_s)
        self.control = ControlApi(self)
        self.webhook_secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        """Signs what `tell` sends; made up at start."""
        self._listening = options
        self._clock = clock
        self._closing = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self.answer, access_log=None), shutdown_timeout=SHUTDOWN_TIMEOUT_S)

    @abstractmethod
    def respond(self, request: ApiRequest) -> ApiResponse:
        """The proper answer to a request, with its effects. Errors are answers too."""

    @abstractmethod
    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        """The answer under `unauthorized`, `rate_limit`, `server_error`, `wrong_body` or a kind of its own."""

    @abstractmethod
    def restore(self, effect: E) -> None:
        """Carry out a logged write again, without logging or telling it, to have the records of an earlier run."""

    @abstractmethod
    def start_anew(self) -> None:
        """Go back to no records, and to the settings of the options; called by `reset`, with an empty effect log."""

    @abstractmethod
    def records(self, request: ApiRequest) -> Any:
        """The document of GET /_simulator/records."""

    @abstractmethod
    def change_by_user(self, request: ApiRequest) -> Any:
        """Carry out POST /_simulator/change, a change by a user of the system. Raises Refusal, ValueError."""

    @property
    @abstractmethod
    def endpoint_settings(self) -> Mapping[str, Any]:
        """The settings of a client's endpoint that reaches this simulator."""

    @property
    @abstractmethod
    def endpoint_secrets(self) -> Mapping[str, str]:
        """The secrets of such an endpoint, `webhook_secret` among them."""

    def status(self) -> dict[str, Any]:
        """What GET /_simulator/status says beside what it says of every simulator."""
        return {}

    @property
    def effects(self) -> list[E]:
        """Every write that was carried out, in order."""
        return self.effect_log.effects

    def tell(self, address: str) -> None:
        """Send what simulated users change to `address`, signed with the endpoint's `webhook_secret`."""
        self.set_webhook(address, self.webhook_secret)

    def set_webhook(self, url: str, secret: str, *, api_writes: bool = False) -> None:
        """Send changes to `url`, signed with `secret`. Raises ValueError for a bad secret."""
        self.webhooks.configure(Webhook(url=url, secret=secret, api_writes=api_writes))

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

    def reset(self) -> None:
        """Go back to the state of a first start: no records, effects or misbehaviours; the state file is emptied."""
        self.effect_log.clear()
        self.requests = 0
        self.misbehaviours.clear()
        self.webhooks.deliveries.clear()
        self.webhooks.configure(self._listening.webhook)
        self.start_anew()

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request; the handler of the server."""
        request = ApiRequest(
            method=http.method,
            path=http.path,
            query=http.query,
            headers=http.headers,
            body=await http.read() if http.can_read_body else b"",
            base_url=f"{http.scheme}://{http.host}",
            target=http.raw_path,
        )
        if request.path.startswith(PREFIX):
            return _http(self.control.handle(request))
        self.requests += 1
        trouble = self.misbehaviours.take(request.method, http.raw_path)
        if trouble is None:
            return _http(self.respond(request))
        return await self._answer_badly(http, request, trouble)

    async def _answer_badly(
        self, http: web.BaseRequest, request: ApiRequest, trouble: Misbehaviour
    ) -> web.StreamResponse:
        delay_s = trouble.delay_s or 0.0
        if trouble.kind == "slow":
            await self._pause(delay_s)
            return _http(self.respond(request))
        if trouble.kind not in ("down", "timeout_after_effect"):
            return _http(self.respond_badly(request, trouble))
        if trouble.kind == "timeout_after_effect":
            self.respond(request)
            await self._pause(delay_s)
        # Both end without an answer: the connection is cut.
        if http.transport is not None:
            http.transport.abort()
        return web.Response(status=503)

    async def _pause(self, delay_s: float) -> None:
        """Wait, but not longer than the simulator runs."""
        try:
            await asyncio.wait_for(self._closing.wait(), delay_s)
        except TimeoutError:
            return

    async def start(self) -> None:
        """Restore the records of an earlier run, and listen."""
        for effect in self.effect_log.open():
            self.restore(effect)
        self.webhooks.configure(self._listening.webhook)
        runner = self._runner
        await runner.setup()
        host = self._listening.host
        await web.TCPSite(runner, host, self._listening.port).start()
        self.url = f"http://{_authority(runner, 0)}"
        if self._listening.tls_port is not None:
            if self.ca_file is None:
                self.ca_file = Path(tempfile.mkdtemp(prefix="simulator-")) / "ca.pem"
            context = make_server_context(self.ca_file, (*self._listening.hostnames, host), name=self.NAME)
            await web.TCPSite(runner, host, self._listening.tls_port, ssl_context=context).start()
            self.tls_url = f"https://{_authority(runner, 1)}"

    async def stop(self) -> None:
        """Stop listening, end what is being answered, and close the state file."""
        self._closing.set()
        await self._runner.cleanup()
        await self.webhooks.close()
        self.effect_log.close()
        if self._listening.ca_file is None and self.ca_file is not None:
            self.ca_file.unlink(missing_ok=True)
            self.ca_file.parent.rmdir()


S = TypeVar("S", bound=SimulatorServer[Any])


@asynccontextmanager
async def running(simulator: S) -> AsyncIterator[S]:
    """Run a simulator in this process, for the length of an `async with` block."""
    try:
        await simulator.start()
        yield simulator
    finally:
        await simulator.stop()


async def started(simulator: S) -> S:
    """Start a simulator; the caller stops it."""
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
    http = web.Response(status=response.status, body=response.body or None, headers=response.headers)
    for cookie in response.cookies:
        http.headers.add("Set-Cookie", cookie)
    return http
