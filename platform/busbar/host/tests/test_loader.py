"""What the loader refuses, in which words, and in which order it gives the rest."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from busbar.auth.permissions import Permission
from busbar.db.migrations import SchemaApp
from busbar.hookspecs import hookimpl
from busbar.host.loader import RESERVED, installed, load
from busbar.host.tests.made_up import Source, event_of, failing, only, route, source, subscription
from busbar.imports.contract import Importer
from busbar.imports.report import ImportReport
from busbar.observability.metrics import registry
from busbar.web.access import needs


@hookimpl
def busbar_rotues() -> Any:
    return ()


@hookimpl
def busbar_coffee_machine() -> Any:
    return ()


@hookimpl
async def busbar_routes() -> Any:
    return ()


@hookimpl
def busbar_roles(app: Any) -> Any:
    return ()


def busbar_importers() -> Any:
    return ()


async def _run(run: Any) -> ImportReport:
    raise AssertionError("nothing is imported here")


def importer(name: str, permission: str = "acme.write") -> Importer:
    return Importer(name=name, title="Things", permission=permission, run=_run)


WRITE = Permission(name="acme.write", title="Write")
REFUSED: list[tuple[str, Callable[[], Source], str, str]] = [
    ("a misspelt hook", lambda: source("acme", busbar_rotues), "busbar_rotues", "did you mean busbar_routes?"),
    ("a hook that there is not", lambda: source("acme", busbar_coffee_machine), "coffee", "the hooks are busbar_"),
    ("an async hook", lambda: source("acme", busbar_routes), "busbar_routes", "write def, not async def"),
    ("a hook with arguments", lambda: source("acme", busbar_roles), "busbar_roles", "takes arguments; take them away"),
    ("a hook without its mark", lambda: source("acme", busbar_importers), "busbar_importers", "@hookimpl"),
    ("no PluginInfo", lambda: source("acme", plugin=None), "busbar_plugin", "return a PluginInfo"),
    ("a newer core", lambda: source("acme", info={"core": ">=99"}), ">=99", "Update one of them"),
    ("a bad specifier", lambda: source("acme", info={"core": "latest"}), "'latest'", "write it as >=0.1,<0.2"),
    ("another name", lambda: source("acme", info={"name": "emca"}), "emca", "entry point is called acme"),
    ("no word for a name", lambda: source("ac-me"), "ac-me", "lower-case letters, digits and underscores"),
    ("a need that is not there", lambda: source("acme", info={"depends_on": ("mm",)}), "needs mm", "not installed"),
    ("the same route twice", lambda: source("acme", routes=(route("/x"), route("/x"))), "GET /x", "take one away"),
    (
        "the same route with another parameter",
        lambda: source("acme", routes=(route("/x/{a:str}"), route("/x/{b:str}"))),
        "twice",
        "take one away",
    ),
    ("a route that declares nothing", lambda: source("acme", routes=(route(opt={}),)), "who may call it", "opt=needs("),
    (
        "a route with an undeclared permission",
        lambda: source("acme", routes=(route(opt=needs("acme.raed")),)),
        "acme.raed",
        "add it to busbar_permissions",
    ),
    (
        "another plugin's permission",
        lambda: source("acme", routes=(route(opt=needs("pm.read")),)),
        "pm.read",
        "add it to busbar_permissions",
    ),
    ("routes that are none", lambda: source("acme", routes=("GET /x",)), "routes", "Litestar HTTP handlers"),
    (
        "a permission with another prefix",
        lambda: source("acme", permissions=(Permission(name="pm.read", title="Read"),)),
        "pm.read",
        "must start with acme.",
    ),
    ("another's event", lambda: source("acme", event_types=(event_of("pm"),)), "PM_HAPPENED", "belong to the plugin"),
    (
        "a subscription with another prefix",
        lambda: source("acme", subscriptions=(subscription("acme", called="pm.count"),)),
        "pm.count",
        "must start with acme.",
    ),
    (
        "a subscription for another module",
        lambda: source("acme", subscriptions=(subscription("pm", called="acme.count"),)),
        "acme.count",
        "must name acme as its module",
    ),
    (
        "an importer with another prefix",
        lambda: source("acme", permissions=(WRITE,), importers=(importer("pm.assets"),)),
        "pm.assets",
        "must start with acme.",
    ),
    (
        "an importer with an undeclared permission",
        lambda: source("acme", importers=(importer("acme.things"),)),
        "acme.write",
        "add it to busbar_permissions",
    ),
    (
        "a schema of another name",
        lambda: source("acme", schema=SchemaApp(name="pm", tables=(), migrations="x")),
        "schema",
        "must be called acme",
    ),
    (
        "a schema that needs another's in silence",
        lambda: source("acme", schema=SchemaApp(name="acme", tables=(), migrations="x", depends_on=("pm",))),
        "needs pm",
        "name it in depends_on",
    ),
    ("a hook that answers nonsense", lambda: source("acme", routes=42), "TypeError", "while it declared"),
    ("an import error", lambda: failing("acme", ModuleNotFoundError("No module named 'x'")), "'x'", "be imported"),
    ("a fault at import", lambda: failing("acme", ZeroDivisionError()), "ZeroDivisionError", "be imported"),
    ("SystemExit at import", lambda: failing("acme", SystemExit(3)), "SystemExit(3)", "be imported"),
]


class TestRefusal:
    @pytest.mark.parametrize(("make", "what", "cure"), [pytest.param(*rest, id=title) for title, *rest in REFUSED])
    def test_names_plugin_and_cure_in_one_sentence_while_others_load(
        self, make: Callable[[], Source], what: str, cure: str
    ) -> None:
        loaded = {plugin.name: plugin for plugin in load([make(), source("other")])}
        (bad,) = (plugin for plugin in loaded.values() if plugin.name != "other")
        assert bad.fault is not None
        assert bad.name in bad.fault
        assert what in bad.fault
        assert cure in bad.fault
        assert "\n" not in bad.fault
        assert loaded["other"].fault is None

    @pytest.mark.parametrize("name", sorted(RESERVED))
    def test_of_a_name_whose_addresses_are_the_cores(self, name: str) -> None:
        assert "the core does not use" in str(only(source(name)).fault)

    def test_says_at_which_stage_it_failed(self) -> None:
        assert only(failing("acme", ImportError("gone"))).stage == "import"
        assert only(source("acme", busbar_rotues)).stage == "load"

    def test_shows_in_the_metrics(self) -> None:
        load([source("good"), source("bad", busbar_rotues), source("follower", info={"depends_on": ("bad",)})])
        shown = {
            name: registry.get_sample_value("busbar_plugin_quarantined", {"plugin": name})
            for name in ("good", "bad", "follower")
        }
        assert shown == {"good": 0, "bad": 1, "follower": 1}

    def test_lets_an_interrupt_from_the_keyboard_through(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            only(failing("acme", KeyboardInterrupt()))

    def test_takes_back_what_a_refused_plugin_wanted_from_others(self) -> None:
        broken, healthy = source("acme", busbar_rotues), source("billing", info={"depends_on": ("acme",)})
        far = source("cashier", info={"depends_on": ("billing",)})
        faults = {plugin.name: plugin.fault for plugin in load([far, healthy, broken])}
        assert faults["billing"] == "The plugin billing needs acme, which is quarantined."
        assert faults["cashier"] == "The plugin cashier needs billing, which is quarantined."


class TestCircle:
    def test_is_refused_with_everybody_in_it_and_nobody_else(self) -> None:
        sources = [
            source("first", info={"depends_on": ("second",)}),
            source("second", info={"depends_on": ("first",)}),
            source("needing", info={"depends_on": ("second",)}),
            source("alone"),
        ]
        faults = {plugin.name: plugin.fault for plugin in load(sources)}
        assert faults["first"] == faults["second"]
        assert "first, second need each other in a circle" in str(faults["first"])
        assert faults["needing"] == "The plugin needing needs second, which is quarantined."
        assert faults["alone"] is None

    def test_two_of_them_are_told_apart(self) -> None:
        pairs = [("aa", "bb"), ("bb", "aa"), ("cc", "dd"), ("dd", "cc")]
        faults = {p.name: p.fault for p in load([source(n, info={"depends_on": (o,)}) for n, o in pairs])}
        assert "aa, bb need" in str(faults["bb"])
        assert "cc, dd need" in str(faults["cc"])


class TestOrder:
    def test_is_by_need_then_by_name_whatever_was_installed_first(self) -> None:
        needs_of = {"zinc": (), "alpha": ("zinc",), "beta": (), "gamma": ("alpha", "beta")}
        sources = [source(name, info={"depends_on": needed}) for name, needed in needs_of.items()]
        orders = {tuple(p.name for p in load(chosen)) for chosen in itertools.permutations(sources)}
        assert orders == {("beta", "zinc", "alpha", "gamma")}

    def test_is_by_name_where_nothing_is_needed(self) -> None:
        assert [plugin.name for plugin in load([source(name) for name in ("cc", "aa", "bb")])] == ["aa", "bb", "cc"]


class TestInstalled:
    def test_plugins_of_this_repository_load_without_fault(self) -> None:
        loaded = load(installed())
        assert {plugin.name for plugin in loaded} >= {"pm", "itsm"}
        assert [plugin.fault for plugin in loaded if plugin.fault] == []

    def test_plugins_stay_a_table_of_contents(self) -> None:
        for _, importer_ in installed():
            lines = Path(str(importer_().__file__)).read_text().splitlines()
            assert len(lines) <= 80
