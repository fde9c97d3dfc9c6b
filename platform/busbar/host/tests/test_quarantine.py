"""A faulty plugin harms only itself: core and others work, its deliveries wait, and it catches up when mended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from busbar.auth.actor import Context, system_actor
from busbar.auth.permissions import Permission, RoleDefault
from busbar.bus.suspension import SUSPENDED_AFTER
from busbar.db import fetch, fetchval
from busbar.events.envelope import StoredEvent
from busbar.events.registry import EventType
from busbar.host.loader import Plugin, PluginRefused, load
from busbar.host.tests.made_up import (
    Happened,
    Source,
    failing,
    happen,
    module_plugin,
    route,
    schema,
    source,
    subscription,
)
from busbar.schema.core import CORE
from busbar.testing.app import Client, RunningApp, running_app
from busbar.testing.database import TestServer
from busbar.web.access import needs

ACME, GOOD = module_plugin("acme"), module_plugin("good")
"""`acme` tells, and both count what they are told; then one of them falls ill."""


@pytest.fixture
def ctx() -> Context:
    return Context(actor=system_actor("test"), correlation_id="quarantine")


@asynccontextmanager
async def running(
    postgres: TestServer, sources: Sequence[Source], dsn: str | None = None, **settings: Any
) -> AsyncIterator[RunningApp]:
    async with running_app(postgres, plugins=load(sources), dsn=dsn, **settings) as app:
        yield app


async def counted(site: str = "a") -> list[str]:
    """Who handled an event at the site, in order."""
    name = await fetchval("select name from core.site where site_id = $1", site)
    return sorted(str(name).split()[1:])


async def states_of(admin: Client) -> dict[str, str]:
    return {plugin["name"]: plugin["state"] for plugin in await admin.get("/plugins")}


async def open_deliveries() -> list[tuple[str, str]]:
    rows = await fetch("select subscription, state from core.delivery where state <> 'delivered' order by 1")
    return [(row["subscription"], row["state"]) for row in rows]


class TestQuarantineAtImport:
    async def test_leaves_core_and_others_at_work_and_catches_up_after_the_fix(
        self, postgres: TestServer, ctx: Context
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        try:
            async with running(postgres, [ACME, GOOD, module_plugin("ill")], dsn=dsn) as app:
                await happen(ctx)
                await app.quiet()
                assert await counted() == ["acme!", "good!", "ill!"]

            async with running(postgres, [ACME, GOOD, failing("ill", ImportError("no ill"))], dsn=dsn) as app:
                admin = await app.client()
                assert (await admin.send("GET", "/ill/things")).status == 404
                assert (await admin.send("GET", "/good/things")).content == b"fine"
                (plugin,) = (each for each in await admin.get("/plugins") if each["state"] == "quarantined")
                assert (plugin["name"], plugin["stage"]) == ("ill", "import")
                assert "no ill" in plugin["fault"]
                ready = await app.anonymous.get("//health/ready")
                assert [check["name"] for check in ready["checks"] if not check["healthy"]] == ["plugins"]
                await happen(ctx)
                await happen(ctx, n=2)
                await app.quiet(but=("ill.count",))
                assert await counted() == ["acme!"] * 3 + ["good!"] * 3 + ["ill!"]
                assert await open_deliveries() == [("ill.count", "pending")] * 2
                listed = await admin.get("/deliveries?subscription=ill.count&state=pending")
                assert listed["total"] == 2

            async with running(postgres, [ACME, GOOD, module_plugin("ill")], dsn=dsn) as app:
                await app.quiet()
                assert await counted() == ["acme!"] * 3 + ["good!"] * 3 + ["ill!"] * 3
                assert await open_deliveries() == []
        finally:
            await postgres.drop_database(name)

    async def test_forgets_what_a_mended_plugin_no_longer_subscribes_to(
        self, postgres: TestServer, ctx: Context
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        try:
            async with running(postgres, [ACME, module_plugin("ill")], dsn=dsn):
                pass
            async with running(postgres, [ACME, module_plugin("ill", subscriptions=())], dsn=dsn):
                pass
            async with running(postgres, [ACME, failing("ill", ImportError())], dsn=dsn) as app:
                await happen(ctx)
                await app.quiet()
                assert await open_deliveries() == []
        finally:
            await postgres.drop_database(name)


class TestSuspended:
    async def test_a_handler_that_fails_with_everything_harms_only_itself_and_is_shown(
        self, postgres: TestServer, ctx: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("busbar.bus.suspension.TRY_EVERY_S", 0.1)
        broken = True

        async def handle(ctx: Context, event: StoredEvent) -> None:
            if broken:
                raise LookupError("no table ill.thing")

        ill = module_plugin("ill", subscriptions=(structs.replace(subscription("ill"), handler=handle),))
        async with running(postgres, [ACME, GOOD, ill]) as app:
            admin = await app.client()
            for n in range(SUSPENDED_AFTER + 5):
                await happen(ctx, n=n, subject=f"thing-{n}")
            await app.quiet(but=("ill.count",))
            async with asyncio.timeout(30):
                while (shown := await states_of(admin))["ill"] != "failing":
                    await asyncio.sleep(0.05)
            assert shown == {"acme": "working", "good": "working", "ill": "failing"}
            (plugin,) = (each for each in await admin.get("/plugins") if each["name"] == "ill")
            assert plugin["stage"] == "run"
            assert plugin["fault"] == (
                "ill.count fails with every event it is given: LookupError('no table ill.thing')."
            )
            ready = await app.anonymous.get("//health/ready")
            assert [check["name"] for check in ready["checks"] if not check["healthy"]] == ["plugins"]
            assert ("ill.count", "dead") not in await open_deliveries()
            broken = False
            await app.quiet()
            assert await open_deliveries() == []
            assert (await states_of(admin))["ill"] == "working"


class TestQuarantineAtMigration:
    async def test_keeps_deliveries_from_the_first_start_on(
        self, postgres: TestServer, ctx: Context, tmp_path: Path
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        try:
            with schema(tmp_path, "ill", "create schema ill; create table ill.thing (n int primry key);") as broken:
                async with running(postgres, [ACME, GOOD, module_plugin("ill", schema=broken)], dsn=dsn) as app:
                    admin = await app.client()
                    (ill,) = (each for each in await admin.get("/plugins") if each["name"] == "ill")
                    assert (ill["state"], ill["stage"]) == ("quarantined", "migration")
                    assert "ill" in ill["fault"]
                    assert "primry" in ill["fault"]
                    assert (await admin.send("GET", "/ill/things")).status == 404
                    await happen(ctx)
                    await app.quiet(but=("ill.count",))
                    assert await open_deliveries() == [("ill.count", "pending")]
                    left = await fetchval("select to_regnamespace('ill')::text")
                    assert left is None, "a migration that fails leaves nothing behind"
            mended_folder = tmp_path / "mended"
            mended_folder.mkdir()
            with schema(mended_folder, "ill", "create schema ill; create table ill.thing (n int);") as mended:
                async with running(postgres, [ACME, GOOD, module_plugin("ill", schema=mended)], dsn=dsn) as app:
                    await app.quiet()
                    assert await counted() == ["acme!", "good!", "ill!"]
        finally:
            await postgres.drop_database(name)

    async def test_takes_dependents_with_it(self, postgres: TestServer, tmp_path: Path) -> None:
        with schema(tmp_path, "ill", "select 1/0;") as broken:
            plugins = load([source("ill", schema=broken), source("near", info={"depends_on": ("ill",)}), source("far")])
            async with running_app(postgres, plugins=plugins):
                assert {plugin.name: plugin.fault is None for plugin in plugins} == {
                    "far": True,
                    "ill": False,
                    "near": False,
                }

    async def test_reports_a_migration_that_was_edited_after_it_ran(self, postgres: TestServer, tmp_path: Path) -> None:
        name, dsn = await postgres.create_database((CORE,))
        try:
            for number, sql in enumerate(("create schema ill;", "create schema ill; select 1;")):
                folder = tmp_path / str(number)
                folder.mkdir()
                with schema(folder, "ill", sql) as made:
                    plugins = load([source("ill", schema=made)])
                    async with running_app(postgres, plugins=plugins, dsn=dsn):
                        pass
            assert plugins[0].stage == "migration"
            assert "ill_0001_first.sql was edited after it ran" in str(plugins[0].fault)
        finally:
            await postgres.drop_database(name)


def _clashing_routes() -> Source:
    # The loader sees two addresses, the framework one.
    return module_plugin("ill", permissions=(), routes=(route("/x"), route("x")))


def _contradicting_permission() -> Source:
    return source(
        "ill",
        permissions=(Permission(name="ill.read", title="Read"),),
        roles=(RoleDefault(role="Reader", title="Reader", permissions=("ill.raed",)),),
    )


def _bad_event() -> Source:
    return source("ill", event_types=(EventType(name="WRONG_PREFIX", module="ill", data=Happened),))


class TestQuarantineAtLoad:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            pytest.param(_clashing_routes, "ill", id="routes that the framework refuses"),
            pytest.param(_contradicting_permission, "ill.raed", id="a role with an unknown permission"),
            pytest.param(_bad_event, "WRONG_PREFIX", id="an event with another prefix"),
        ],
    )
    async def test_of_what_only_the_start_finds(self, postgres: TestServer, make: Any, reason: str) -> None:
        plugins = load([GOOD, make()])
        async with running_app(postgres, plugins=plugins) as app:
            ill = _named(plugins, "ill")
            assert ill.stage == "load"
            assert reason in str(ill.fault)
            assert _named(plugins, "good").fault is None
            assert (await (await app.client()).send("GET", "/good/things")).content == b"fine"

    async def test_keeps_the_deliveries_of_a_plugin_whose_declaration_broke(
        self, postgres: TestServer, ctx: Context
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        broken = module_plugin("ill", permissions=(), routes=(route(opt=needs("ill.raed")),))
        try:
            async with running(postgres, [ACME, module_plugin("ill")], dsn=dsn):
                pass
            async with running(postgres, [ACME, broken], dsn=dsn) as app:
                await happen(ctx)
                await app.quiet(but=("ill.count",))
                assert await open_deliveries() == [("ill.count", "pending")]
            async with running(postgres, [ACME, module_plugin("ill")], dsn=dsn) as app:
                await app.quiet()
                assert await counted() == ["acme!", "ill!"]
        finally:
            await postgres.drop_database(name)


class TestStrict:
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: failing("ill", ImportError("no ill")), id="import"),
            pytest.param(lambda: source("ill", routes=(route(opt={}),)), id="load"),
            pytest.param(_contradicting_permission, id="roles"),
            pytest.param(_bad_event, id="events"),
        ],
    )
    async def test_makes_a_fault_fatal(self, postgres: TestServer, make: Any) -> None:
        with pytest.raises(PluginRefused, match="ill"):
            async with running(postgres, [GOOD, make()], strict=True):
                raise AssertionError("it started")

    async def test_starts_when_nothing_is_wrong(self, postgres: TestServer) -> None:
        async with running(postgres, [GOOD], strict=True) as app:
            assert (await app.anonymous.get("//health/ready"))["checks"]


def _named(plugins: Sequence[Plugin], name: str) -> Plugin:
    (found,) = (plugin for plugin in plugins if plugin.name == name)
    return found
