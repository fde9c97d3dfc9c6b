"""One running process: database, plugins, relay, workers and health, in the order in which they need each other."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from busbar.audit.sealer import Sealer
from busbar.auth.config import AuthSettings
from busbar.auth.first_start import ensure_admin
from busbar.auth.keys import sealed_keys_exist
from busbar.auth.permissions import PermissionFault, PermissionRegistry
from busbar.auth.service import Auth
from busbar.bus.broker import Broker, running_broker
from busbar.bus.embedded import EmbeddedTransport
from busbar.bus.handlers import HandlerLane
from busbar.bus.jobs import Job, forget_jobs_but, register_job_metrics, run_job
from busbar.bus.publication import Publication, register_publication_metrics
from busbar.bus.rabbitmq import RabbitTransport
from busbar.bus.reconciler import run_reconciler
from busbar.bus.topology import binding_keys
from busbar.bus.transport import Transport
from busbar.bus.worker import Lane, Worker
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.egress import BadAllowEntry
from busbar.connectors.outcomes import OutcomeReader
from busbar.connectors.poller import Poller
from busbar.connectors.secrets import KeyRing, KeyRingBox, load_key_ring
from busbar.db import DATABASE_TROUBLE, DB, end_tasks, fetchval, open_pools, spawn
from busbar.db.wakeup import Channel, Listener, signal, wait_for
from busbar.events import standing_orders
from busbar.events.metrics import register_ledger_metrics
from busbar.events.registry import REGISTRY
from busbar.events.relay import Relay
from busbar.events.replays import run_replays
from busbar.events.stream import EventStream
from busbar.events.subscriptions import HandlerMatcher
from busbar.host.catalog import Catalog
from busbar.host.loader import Plugin, PluginRefused
from busbar.imports.commands import watch_imports
from busbar.imports.contract import Importer
from busbar.imports.users import user_importer
from busbar.kit.clock import Clock, utc_now
from busbar.observability.health import Health, Lifecycle
from busbar.observability.loop_lag import LoopLag
from busbar.routing.matcher import RouteMatcher
from busbar.schema.core import CORE
from busbar.schema.runner import migrate
from busbar.settings import BadSettings, Settings
from busbar.sites.directory import DIRECTORY
from busbar.tickets.commands import apply_remote_change
from busbar.tickets.metrics import register_ticket_metrics
from busbar.tickets.sla_job import SLA_JOB
from busbar.tickets.sla_terms import TERMS
from busbar.web.idempotency import KEPT_DAYS, forget_old

log = structlog.get_logger()

_REFRESH_S = 5.0
"""Configuration is read anew after each change, and at least so often."""
_RESTART_S = 1.0
"""So long after a loop failed it is begun again."""
_FORGET_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What runs in this process, for whoever serves it: the HTTP application, a command, a test."""

    settings: Settings
    dsn: str
    catalog: Catalog
    importers: Mapping[str, Importer]
    """By name: those of the working plugins, and the core's."""
    auth: Auth
    endpoints: EndpointDesk
    routes: RouteMatcher
    stream: EventStream
    health: Health
    clock: Clock
    first_password: str | None
    """The password of `admin`, if this start made it; to be shown once and forgotten."""


@asynccontextmanager
async def run_platform(
    settings: Settings,
    *,
    dsn: str,
    plugins: Sequence[Plugin],
    work: bool = True,
    clock: Clock = utc_now,
) -> AsyncIterator[Platform]:
    """Start everything, and stop it in reverse when the block ends.

    `dsn` is the database, running already. With `work` the process relays events and runs deliveries; without, it only
    serves requests, and other processes must work.

    Raises:
        PluginRefused: a plugin is faulty and the settings say `strict`.
        BadSettings: BUSBAR_EGRESS cannot be read.
        LostSecretKey: the database was used with a secret key that is not there now.
        Unavailable: the database cannot be reached.
    """
    number = secrets.randbelow(2**31 - 1) + 1
    catalog = Catalog(plugins)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_pools(dsn, size=settings.pool_size))
        await _bring_up(dsn, catalog)
        key_ring = load_key_ring(home=settings.home, environ=settings.key_environment, in_use=await sealed_keys_exist())
        auth, first_password = await _start_identity(settings, catalog, key_ring, clock)
        stack.callback(auth.close)
        catalog.quarantine_dependents()
        if settings.strict and (faults := [plugin.fault for plugin in catalog if plugin.fault is not None]):
            raise PluginRefused(" ".join(faults))
        endpoints = _open_desk(settings, catalog, key_ring, clock)
        stack.push_async_callback(endpoints.close)
        routes = RouteMatcher(DIRECTORY)
        listener = Listener(dsn, worker=number)
        await listener.start()
        stack.push_async_callback(listener.stop)
        health = _open_health(catalog)
        refreshers: list[Callable[[], Awaitable[None]]] = [
            *(DIRECTORY.refresh, endpoints.refresh, routes.refresh),
            lambda: TERMS.refresh(clock),
        ]
        for refresh in refreshers:
            await refresh()
        await _keep(stack, lambda: _refresh_on_change(refreshers), "configuration")
        await _keep(stack, LoopLag().run, "loop-lag")
        stream = EventStream()
        await _keep(stack, stream.run, "event-stream")
        _open_metrics(clock)
        if work:
            broker = await _connect_broker(stack, settings, health)
            refreshers += await _start_work(
                stack, settings, catalog, endpoints, routes, broker, number=number, clock=clock
            )
        log.info("running", worker=number, plugins=[plugin.name for plugin in catalog.working])
        yield Platform(
            settings=settings,
            dsn=dsn,
            catalog=catalog,
            importers=_importers(catalog, auth),
            auth=auth,
            endpoints=endpoints,
            routes=routes,
            stream=stream,
            health=health,
            clock=clock,
            first_password=first_password,
        )
        health.lifecycle.stop()


def _open_health(catalog: Catalog) -> Health:
    health = Health(Lifecycle())
    health.add_readiness_check("database", _database_answers)
    health.add_readiness_check("plugins", lambda: _plugins_work(catalog), required=False)
    return health


def _open_metrics(clock: Clock) -> None:
    register_ledger_metrics()
    register_ticket_metrics(clock)
    register_job_metrics(clock)


def _importers(catalog: Catalog, auth: Auth) -> Mapping[str, Importer]:
    plugins = [importer for plugin in catalog.working for importer in plugin.importers]
    return {importer.name: importer for importer in (user_importer(auth), *plugins)}


def _open_desk(settings: Settings, catalog: Catalog, key_ring: KeyRing, clock: Clock) -> EndpointDesk:
    try:
        return EndpointDesk(
            {connector.kind: connector for plugin in catalog.working for connector in plugin.connectors},
            key_ring=key_ring,
            egress=settings.egress,
            allow_loopback=settings.allow_loopback,
            clock=clock,
            quarantined=catalog.quarantined,
            brokered=settings.amqp_url is not None,
        )
    except BadAllowEntry as error:
        raise BadSettings(f"Busbar cannot start with these settings. BUSBAR_EGRESS: {error.detail}") from error


async def _start_identity(
    settings: Settings, catalog: Catalog, key_ring: KeyRing, clock: Clock
) -> tuple[Auth, str | None]:
    registry = PermissionRegistry()
    for plugin in catalog.working:
        try:
            registry.declare(plugin.permissions, plugin.roles)
        except PermissionFault as fault:
            plugin.quarantine("load", fault.detail)
    auth = Auth(
        AuthSettings(lockout=settings.lockout, trusted_proxies=settings.trusted_proxies),
        box=KeyRingBox(key_ring),
        registry=registry,
        clock=clock,
    )
    await auth.start()
    return auth, await ensure_admin(auth, password=settings.admin_password)


async def _bring_up(dsn: str, catalog: Catalog) -> None:
    apps = [CORE, *(plugin.schema for plugin in catalog.working if plugin.schema is not None)]
    for name, error in (await migrate(dsn, apps)).items():
        plugin = catalog.get(name)
        assert plugin is not None, "only plugins' migrations are returned as failed"
        plugin.quarantine("migration", f"A migration of the plugin {name} failed: {error}")
    catalog.register_event_types(REGISTRY)


async def _start_work(
    stack: AsyncExitStack,
    settings: Settings,
    catalog: Catalog,
    endpoints: EndpointDesk,
    routes: RouteMatcher,
    broker: Broker | None,
    *,
    number: int,
    clock: Clock,
) -> Sequence[Callable[[], Awaitable[None]]]:
    """Start everything that works by itself; returns what must be called when the configuration has changed."""
    working = [subscription for plugin in catalog.working for subscription in plugin.subscriptions]
    await standing_orders.keep(working, modules=[plugin.name for plugin in catalog.working])
    # A quarantined plugin's deliveries wait for it, also when it cannot even say what it subscribes to.
    waiting = await standing_orders.recall([plugin.name for plugin in catalog if plugin.fault is not None])
    declared = [each for plugin in catalog if plugin.stage == "migration" for each in plugin.subscriptions]
    handlers = HandlerMatcher([*working, *waiting, *declared], DIRECTORY.enabled)
    handler_lanes: dict[str, Lane] = {
        name: HandlerLane(subscription, clock=clock, quarantined=catalog.quarantined)
        for name, subscription in handlers.by_name.items()
    }

    def lanes() -> Mapping[str, Lane]:
        return handler_lanes | {name: endpoints.lane(endpoint) for name, endpoint in routes.subscriptions()}

    if broker is not None:
        endpoints.hand_over_through(broker)
        OutcomeReader(endpoints).consume_from(broker)
    transport, followers = await _open_bus(stack, broker, handlers, routes)
    worker = Worker(transport, lanes, number=number)

    async def catch_up() -> None:
        await DIRECTORY.refresh()
        await routes.refresh()

    relay = Relay([handlers, routes], transport.publish, refresh=catch_up)
    await _keep(stack, relay.run, "relay")
    await _keep(stack, Sealer().run, "audit-sealer")
    await _keep(stack, lambda: run_reconciler(grace_s=settings.takeover_s, worker=number), "reconciler")
    await _keep(stack, lambda: watch_imports(clock), "import-watch")
    await _keep(stack, lambda: run_replays(clock), "replays")
    await _keep(stack, worker.run, "worker")
    await _keep(stack, lambda: _forget_old_answers(clock), "idempotency")
    await _keep(stack, Poller(endpoints, apply_remote_change).run, "poller")
    jobs = [SLA_JOB, *(job for plugin in catalog.working for job in plugin.jobs)]
    await forget_jobs_but([job.name for job in jobs], polls=False)
    for job in jobs:
        await _keep(stack, _running(job, catalog, clock), job.name)
    stack.push_async_callback(worker.stop, within_s=settings.stop_s)
    return followers


async def _connect_broker(stack: AsyncExitStack, settings: Settings, health: Health) -> Broker | None:
    """The way to the broker, if there is one; it need not answer now, for the work goes on without."""
    if settings.amqp_url is None:
        return None
    name = f"busbar {socket.gethostname()} {os.getpid()}"
    broker = await stack.enter_async_context(
        running_broker(settings.amqp_url, ca_file=settings.amqp_ca_file, name=name)
    )

    async def connected() -> str:
        if not broker.connected.is_set():
            raise RuntimeError(f"no connection to {broker.address.shown}; deliveries go on from the ledger")
        return broker.address.shown

    health.add_readiness_check("broker", connected, required=False)
    return broker


async def _open_bus(
    stack: AsyncExitStack, broker: Broker | None, handlers: HandlerMatcher, routes: RouteMatcher
) -> tuple[Transport, Sequence[Callable[[], Awaitable[None]]]]:
    """The transport, and what must be called when the configuration has changed."""
    if broker is None:
        return EmbeddedTransport(), ()

    def subscriptions() -> dict[str, list[str]]:
        wanted = {name: binding_keys(each.pattern, (), REGISTRY) for name, each in handlers.by_name.items()}
        return wanted | {name: binding_keys(each.types, each.sites, REGISTRY) for name, each in routes.published()}

    transport = RabbitTransport(broker, subscriptions)

    async def follow() -> None:
        transport.follow()

    await follow()
    register_publication_metrics()
    await _keep(stack, Publication(broker, transport.bound).run, "publication")
    return transport, (follow,)


def _running(job: Job, catalog: Catalog, clock: Clock) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: run_job(job, clock=clock, quarantined=catalog.quarantined)


async def _keep(stack: AsyncExitStack, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Run a loop until the stack unwinds; one that fails is told of and begun again (LESSONS D1)."""

    async def supervised() -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("loop_failed", loop=name)
                await asyncio.sleep(_RESTART_S)
            else:
                return

    task = spawn(supervised(), name=name, pool="background")

    stack.push_async_callback(end_tasks, task)


async def _forget_old_answers(clock: Clock) -> None:
    """Drop the answers to keyed requests that nobody will repeat."""
    while True:
        try:
            await forget_old(clock() - timedelta(days=KEPT_DAYS))
        except DATABASE_TROUBLE as error:
            log.warning("old_answers_not_forgotten", error=str(error) or repr(error))
        await asyncio.sleep(_FORGET_S)


async def _refresh_on_change(refreshers: Sequence[Callable[[], Awaitable[None]]]) -> None:
    with signal(Channel.CONFIG) as changed:
        while True:
            await wait_for(changed, poll_s=_REFRESH_S)
            try:
                for refresh in refreshers:
                    await refresh()
            except DATABASE_TROUBLE as error:
                log.warning("configuration_not_refreshed", error=str(error) or repr(error))


async def _database_answers() -> str:
    await fetchval("select 1")
    return f"{DB.pools['requests'].get_size()} connections"


async def _plugins_work(catalog: Catalog) -> str:
    faulty = [plugin.name for plugin in catalog if plugin.fault is not None]
    if faulty:
        raise RuntimeError(f"quarantined: {', '.join(faulty)}")
    if suspended := await standing_orders.suspended():
        raise RuntimeError(f"failing with everything: {', '.join(each.name for each in suspended)}")
    return f"{len(catalog.working)} plugins"
