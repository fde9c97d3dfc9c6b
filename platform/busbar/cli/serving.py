"""Running Busbar: `up`, `serve`, `worker`."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import structlog
import uvicorn
import uvloop

from busbar.app import create_app
from busbar.cli.console import people, tell_first_password
from busbar.cli.session import operator, platform
from busbar.cli.simulators import start_simulators
from busbar.connectors.contract import RunningSimulator
from busbar.kit.garbage import collect_rarely
from busbar.observability.logs import configure_logging
from busbar.runtime import Platform
from busbar.settings import BadSettings, Settings, read_settings
from busbar.web.asgi import Edge
from busbar.web.operations import operations_app

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Uvicorn without its own signal handling; ours drains first (LESSONS H5)."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_up() -> None:
    """Everything in one process, in the foreground."""
    settings = _begin()
    uvloop.run(_up(settings))


def run_serve(*, work: bool) -> None:
    """The API, by default with relay and workers."""
    settings = _begin()
    uvloop.run(_serve(settings, work=work))


def run_worker() -> None:
    """Relay and workers; the port answers for health and metrics only."""
    settings = _begin()
    uvloop.run(_work(settings))


def _begin() -> Settings:
    settings = read_settings()
    configure_logging(level=settings.log_level)
    return settings


async def _up(settings: Settings) -> None:
    async with platform(settings, work=True) as running, _simulators(running) as simulators:
        if settings.demo:
            from busbar.cli.data import add_demo_data

            await add_demo_data(running)
        await _listen(running, create_app(running), announce=True, simulators=simulators)


async def _serve(settings: Settings, *, work: bool) -> None:
    async with platform(settings, work=work) as running:
        await _listen(running, create_app(running), announce=running.first_password is not None)


async def _work(settings: Settings) -> None:
    async with platform(settings, work=True) as running:
        tell_first_password(running.first_password)
        # Nobody balances load over workers, so there is nobody to wait for before it stops.
        await _listen(running, operations_app(running.health), announce=False, drain_s=0.0)


@contextlib.asynccontextmanager
async def _simulators(running: Platform) -> AsyncIterator[dict[str, RunningSimulator]]:
    if running.settings.mode != "development":
        yield {}
        return
    simulators = await start_simulators(operator(), running)
    try:
        yield simulators
    finally:
        for simulator in simulators.values():
            await simulator.stop()


async def _listen(
    running: Platform,
    app: Edge,
    *,
    announce: bool,
    simulators: Mapping[str, RunningSimulator] | None = None,
    drain_s: float | None = None,
) -> None:
    settings = running.settings
    server = Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(settings.stop_s),
            timeout_keep_alive=75,
        )
    )
    stopping = asyncio.Event()

    def stop() -> None:
        running.health.lifecycle.drain()
        stopping.set()

    _on_signals(stop)
    serving = asyncio.ensure_future(server.serve([_open_port(settings)]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        if announce and not serving.done():
            _announce(running, simulators or {})
        collect_rarely()
        log.info("ready", port=settings.port)
        waiting = asyncio.ensure_future(stopping.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await asyncio.sleep(settings.drain_s if drain_s is None else drain_s)
        # The server waits for open answers, and event streams would not end by themselves.
        running.stream.stop()
        server.should_exit = True
        await serving
    finally:
        log.info("stopped")


def _open_port(settings: Settings) -> socket.socket:
    """The socket to listen on; uvicorn, asked to open it, would end the process without saying why."""
    family = socket.AF_INET6 if ":" in settings.listen else socket.AF_INET
    try:
        return socket.create_server((settings.listen, settings.port), family=family)
    except OSError as error:
        raise BadSettings(
            f"Busbar cannot listen on port {settings.port} of {settings.listen}: {error.strerror}. "
            "Each process needs a port of its own; BUSBAR_PORT and BUSBAR_LISTEN set it."
        ) from error


def _announce(running: Platform, simulators: Mapping[str, RunningSimulator]) -> None:
    settings = running.settings
    people.print(f"\n[bold green]Busbar is ready[/]  http://{settings.listen}:{settings.port}/openapi")
    if running.first_password is not None:
        tell_first_password(running.first_password)
    elif settings.admin_password is not None:
        people.print("  sign in as [bold]admin[/] with the password of BUSBAR_ADMIN_PASSWORD")
    else:
        people.print("  sign in as [bold]admin[/] with the password that the first start showed")
    for kind, simulator in simulators.items():
        people.print(f"  simulator of {kind}: {simulator.url}")


def _on_signals(call: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)
