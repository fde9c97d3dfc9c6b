"""The whole platform inside the tests' own process: a real database, real HTTP, and a signed-in client for any role."""

import asyncio
import base64
import contextlib
import logging
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest_asyncio
import structlog
import uvicorn

from busbar.app import create_app
from busbar.auth.actor import ALL_SITES
from busbar.cli.serving import Server
from busbar.db import fetchval, spawn
from busbar.host.loader import Plugin, installed, load
from busbar.kit.clock import Clock, utc_now
from busbar.observability.logs import configure_logging
from busbar.runtime import Platform, run_platform
from busbar.schema.core import CORE
from busbar.settings import Settings
from busbar.testing.database import TestServer, all_connections_home

PASSWORD = "an orange transformer hums"
"""Of every user that is made here."""
SITES = ("a", "b")
"""The sites that a running app has from the start, each with every module enabled."""
KEY = base64.b64encode(bytes(range(32))).decode()
"""The same for every platform, so that a second one can read the database of a first."""
LINES_KEPT = 20_000
STOP_S = 5
QUIET_S_MAX = 10.0


LogLine = dict[str, Any]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        """The decoded JSON; None when there is no content."""
        return msgspec.json.decode(self.content) if self.content else None


class Client:
    """Somebody who calls the API; paths are below `/api/v1` unless they start with `//`, as in `//health/live`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, token: str | None = None) -> None:
        self._session = session
        self._url = url
        self.token = token

    async def send(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """Send a request, with `body` as JSON; whatever the answer is, it is returned. `more` goes to aiohttp."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            more["data"] = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        async with self._session.request(method, self.url(path), headers=sent, **more) as answer:
            return Answer(status=answer.status, headers=answer.headers, content=await answer.read())

    async def get(self, path: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        """GET; the body, if the status is the expected one."""
        return await self._expect("GET", path, None, status, headers)

    async def post(
        self, path: str, body: Any = None, *, status: int = 201, headers: Mapping[str, str] | None = None
    ) -> Any:
        """POST; the body, if the status is the expected one."""
        return await self._expect("POST", path, body, status, headers)

    async def patch(self, path: str, body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
        """PATCH; the body, if the status is the expected one."""
        return await self._expect("PATCH", path, body, status, headers)

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET whose answer is read while it comes, such as the stream of events; it is left when the block ends."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._session.get(self.url(path), headers=sent) as answer:
            yield answer

    def url(self, path: str) -> str:
        """The whole address of a path."""
        return self._url + (path[1:] if path.startswith("//") else f"/api/v1{path}")

    async def _expect(self, method: str, path: str, body: Any, status: int, headers: Mapping[str, str] | None) -> Any:
        answer = await self.send(method, path, body, headers=headers)
        text = answer.content.decode(errors="replace")
        assert answer.status == status, f"{method} {path}: {answer.status}, not {status}: {text}"
        return answer.body


class RunningApp:
    """A platform that serves HTTP, and its callers."""

    def __init__(
        self, platform: Platform, url: str, session: aiohttp.ClientSession, log_lines: Callable[[], list[LogLine]]
    ) -> None:
        self.log_lines = log_lines
        """Returns the latest lines of the log, decoded."""
        self.platform = platform
        self.url = url
        self.anonymous = Client(session, url)
        self._session = session
        self._clients: dict[tuple[str, ...], Client] = {}

    async def sign_in(self, username: str, password: str = PASSWORD) -> Client:
        """A client with a new token of this user."""
        tokens = await self.anonymous.post("/auth/login", {"username": username, "password": password}, status=200)
        return Client(self._session, self.url, token=tokens["access_token"])

    async def client(self, role: str = "Admin", *sites: str) -> Client:
        """A client with this role, at these sites or else at all; the user is made when first asked for."""
        key = (role, *sites)
        if key not in self._clients:
            name = "-".join((role.lower(), *sites))
            if key == ("Admin",):
                name = "admin"
            else:
                new = {"username": name, "display_name": name, "password": PASSWORD, "roles": [role]}
                await (await self.client()).post("/users", new | {"sites": list(sites or (ALL_SITES,))})
            self._clients[key] = await self.sign_in(name)
        return self._clients[key]

    async def roles(self) -> list[str]:
        """The names of all roles."""
        return [role["role"] for role in (await (await self.client()).get("/roles"))["items"]]

    async def quiet(self, *, but: Sequence[str] = ()) -> None:
        """Wait until every event was handed on and every delivery is finished, `but` those of these subscriptions.

        Raises:
            AssertionError: they did not finish within `QUIET_S_MAX`.
        """
        waiting = -1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S_MAX):
                while waiting := await fetchval(_WAITING, list(but)):  # noqa: ASYNC110 - the ledger tells the worker
                    await asyncio.sleep(0.01)
                return
        raise AssertionError(f"{waiting} events and deliveries are still on their way after {QUIET_S_MAX} s")


_WAITING = """
select (select count(*) from core.event where position is null)
    + (select count(*) from core.delivery where state in ('pending', 'retrying', 'in_flight')
        and subscription <> all ($1::text[]))
"""


@contextlib.asynccontextmanager
async def running_app(
    postgres: TestServer,
    *,
    plugins: Sequence[Plugin] | None = None,
    dsn: str | None = None,
    clock: Clock = utc_now,
    **settings: Any,
) -> AsyncIterator[RunningApp]:
    """The whole platform for the time of the block, on a fresh database or that of `dsn`.

    `plugins` are the installed ones unless others are given (`busbar.host.loader.load`); further arguments are fields
    of `Settings`. At the end every database connection must have come home.
    """
    chosen = load(installed()) if plugins is None else plugins
    name = None
    if dsn is None:
        schemas = [plugin.schema for plugin in chosen if plugin.schema is not None and plugin.fault is None]
        name, dsn = await postgres.create_database((CORE,) if plugins is not None else (CORE, *schemas))
    try:
        with tempfile.TemporaryDirectory(prefix="busbar-test-home-") as home, caught_log() as log_lines:
            given = {
                "home": Path(home),
                "admin_password": PASSWORD,
                "secret_key": KEY,
                "stop_s": float(STOP_S),
                **settings,
            }
            async with run_platform(Settings(**given), dsn=dsn, plugins=chosen, clock=clock) as platform:
                async with serving(platform) as url, aiohttp.ClientSession() as session:
                    app = RunningApp(platform, url, session, log_lines)
                    await _make_sites(app)
                    yield app
                await all_connections_home()
    finally:
        if name is not None:
            await postgres.drop_database(name)


@contextlib.asynccontextmanager
async def serving(platform: Platform) -> AsyncIterator[str]:
    """Serve the platform on a free port of the loopback address; gives the address of its root."""
    # Named, or asyncio would not set TCP_NODELAY, and each answer would wait 40 ms for an acknowledgement.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        config = uvicorn.Config(
            create_app(platform),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_S,
            # As served: a connection that the server closes just when it is used again fails a test.
            timeout_keep_alive=75,
        )
        server = Server(config)
        task = spawn(server.serve(sockets=[listening]), name="server")
        try:
            while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            platform.stream.stop()
            server.should_exit = True
            await task


@contextlib.contextmanager
def caught_log() -> Iterator[Callable[[], list[LogLine]]]:
    """Keep the log's latest lines for the test; warnings and errors go to standard error, where pytest shows them."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    kept: deque[bytes] = deque(maxlen=LINES_KEPT)

    def write(lines: bytes) -> None:
        for line in lines.splitlines():
            kept.append(line)
            if b'"log_level":"WARNING"' in line or b'"log_level":"ERROR"' in line:
                sys.stderr.write(line.decode() + "\n")

    sink = configure_logging(write=write)

    def log_lines() -> list[LogLine]:
        sink.flush()
        return [msgspec.json.decode(line, type=LogLine) for line in list(kept)]

    try:
        yield log_lines
    finally:
        configure_logging().close()
        root.handlers, root.level = before
        structlog.reset_defaults()


async def _make_sites(app: RunningApp) -> None:
    admin = await app.client()
    for site in SITES:
        answer = await admin.send(
            "POST", "/sites", {"site_id": site, "name": site.upper(), "modules": app.platform.catalog.modules}
        )
        # They are there already when a test starts a second platform on the same database.
        assert answer.status in (201, 409), answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(postgres: TestServer) -> AsyncIterator[RunningApp]:
    """The installed platform, shared by the tests of a module; the fixture `database` cannot be used beside it.

    Not by those of a whole session: a process has one set of database pools, and other tests need them.
    """
    async with running_app(postgres) as running:
        yield running
