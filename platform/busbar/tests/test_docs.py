"""The documents are complete, their links lead somewhere, and what they tell people to type exists."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from busbar import hookspecs
from busbar.cli.reference import differences, rendered
from busbar.cli.reference_pages import commands, error_classes
from busbar.cli.reference_sdk import by_subject
from busbar.cli.source import fields_of
from busbar.events.registry import EventRegistry
from busbar.host.catalog import Catalog
from busbar.host.loader import Plugin, installed, load
from busbar.settings import VARIABLES, Settings
from busbar.tests.test_house import ROOT, product_files, tracked

CORE = ROOT / "platform" / "busbar"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
SCREEN_LINES_MAX = 60


@cache
def loaded() -> tuple[Plugin, ...]:
    return tuple(load(installed()))


@cache
def registry() -> EventRegistry:
    known = EventRegistry()
    Catalog(loaded()).register_event_types(known)
    return known


def pages() -> list[Path]:
    return [path for path in tracked(".md") if "fixtures" not in path.parts]


def shell_lines(path: Path) -> Iterator[str]:
    """The lines of the page's `sh` blocks, continued ones joined, without comments."""
    for block in re.findall(r"^```sh\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if text := re.sub(r"(^|\s)#.*", "", line).strip():
                yield text


def anchors(path: Path) -> set[str]:
    """The anchors that the page's headings have on the usual forges."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestReference:
    def test_is_what_the_code_says(self) -> None:
        assert differences(ROOT / "docs" / "reference", list(loaded()), registry()) == []

    def test_is_the_same_text_each_time(self) -> None:
        assert rendered(list(loaded()), registry()) == rendered(list(loaded()), registry())

    def test_tells_of_a_page_that_lags_behind(self, tmp_path: Path) -> None:
        for name, text in rendered(list(loaded()), registry()).items():
            (tmp_path / name).write_text(text + ("More." if name == "errors.md" else ""), "utf-8")
        told = [sentence for sentence in differences(tmp_path, list(loaded()), registry()) if ".md" in sentence]
        assert told == [f"{tmp_path / 'errors.md'} is not what the code says; run make docs."]


class TestEverythingIsDocumented:
    def test_every_hook(self) -> None:
        hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("busbar_")}
        assert hooks
        assert [name for name, hook in hooks.items() if not inspect.getdoc(hook)] == []

    def test_every_name_of_the_sdk(self) -> None:
        silent = [name for names in by_subject().values() for name, definition in names if not definition.doc]
        assert silent == []

    def test_every_error_that_a_caller_may_see(self) -> None:
        assert [error.__name__ for error in error_classes() if not error.__dict__.get("__doc__")] == []

    def test_every_event_and_the_structs_inside(self) -> None:
        assert list(registry())
        assert [each.name for each in registry() if not each.description] == []

    def test_every_permission(self) -> None:
        assert [each.name for plugin in loaded() for each in plugin.permissions if not each.title] == []

    def test_every_command_and_every_option(self) -> None:
        silent = [" ".join(path) for path, command in commands() if not command.help]
        silent += [
            f"{' '.join(path)} {parameter.opts[0]}"
            for path, command in commands()
            for parameter in command.params
            if parameter.param_type_name == "option" and not parameter.help
        ]
        assert silent == []

    def test_every_setting_once(self) -> None:
        assert sorted(variable.field for variable in VARIABLES) == sorted(Settings.__struct_fields__)
        assert [variable.name for variable in VARIABLES if "Default" not in variable.meaning] == []

    def test_every_setting_of_a_connector(self) -> None:
        fields = [
            (connector.kind, field.name, field.doc)
            for plugin in loaded()
            for connector in plugin.connectors
            for field in fields_of(connector.settings)
        ]
        assert fields
        assert [f"{kind}.{name}" for kind, name, doc in fields if not doc] == []

    def test_every_variable_that_the_code_reads(self) -> None:
        known = {variable.name for variable in VARIABLES}
        read = {
            name
            for path in product_files()
            if path.relative_to(ROOT).parts[0] not in ("acceptance", "benchmarks", "ops")
            for name in re.findall(r"[\"'](BUSBAR_[A-Z_]+)[\"']", path.read_text("utf-8"))
        }
        assert read - known == {
            "BUSBAR_PG_BIN",  # where to look for PostgreSQL; named by the error that asks for it, and in operate.md
            "BUSBAR_CRASH",  # crash points, for tests only
        }

    def test_every_package_says_where_to_start_reading(self) -> None:
        folders = [path.parent for path in product_files() if path.name == "plugin.py"]
        assert [folder.name for folder in folders if not (folder.parent / "README.md").exists()] == []


class TestLinks:
    def test_lead_to_files_and_headings_that_exist(self) -> None:
        broken = []
        for page in pages():
            text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                goal = (page.parent / name).resolve() if name else page
                if not goal.exists() or (anchor and anchor not in anchors(goal)):
                    broken.append(f"{page.relative_to(ROOT)}: {target}")
        assert broken == []


class TestFirstHour:
    def test_is_under_1000_lines(self) -> None:
        section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## First hour\n")[2].partition("\n## ")[0]
        stops = [ROOT / target for target in re.findall(r"\]\(([^)]+)\)", section)]
        assert len(stops) == 7
        assert sum(len(stop.read_text("utf-8").splitlines()) for stop in stops) < 1_000


class TestDecisions:
    def test_are_listed_in_order_without_a_gap(self) -> None:
        assert [path.name[:4] for path in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]
        index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
        assert [path.name for path in DECISIONS if f"]({path.name})" not in index] == []

    @pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
    def test_fits_on_a_screen_and_ends_with_the_test_that_holds_it(self, path: Path) -> None:
        text = path.read_text("utf-8")
        assert len(text.splitlines()) < SCREEN_LINES_MAX
        assert re.match(rf"# {path.name[:4]} \S", text)
        last = text.strip().split("\n\n")[-1]
        assert last.startswith("**Held by** ")
        folder: Path | None = None
        files = re.findall(r"`([\w/]+\.py)`", last)
        assert files
        for name in files:
            file = ROOT / name if "/" in name or folder is None else folder / name
            assert file.is_file(), f"{name} is not there"
            folder = file.parent
            assert re.search(r"def test_|^async def measure", file.read_text("utf-8"), re.MULTILINE), (
                f"{name} tests nothing"
            )
        tests = "\n".join(one.read_text("utf-8") for one in tracked(".py") if one.name in {Path(f).name for f in files})
        for name in re.findall(r"`(Test\w+)`", last):
            assert f"class {name}" in tests, f"{name} is not there"


def traps() -> list[tuple[str, str, str]]:
    """The rows of the map's section on guards: number, guards, tests."""
    section = (ROOT / "docs" / "guards.md").read_text("utf-8")
    return re.findall(r"^\| ([DEBHT]\d+) \| .+ \| (.+) \| (.+) \|$", section, re.MULTILINE)


class TestGuards:
    def test_are_told_for_every_trap(self) -> None:
        numbers = {
            "D": range(1, 20),
            "E": range(1, 5),
            "B": range(1, 8),
            "H": (*range(1, 9), 11, 12),
            "T": (1, 2, 3, 9),
        }
        assert [trap for trap, _, _ in traps()] == [f"{kind}{n}" for kind, some in numbers.items() for n in some]

    def test_lie_where_the_map_says(self) -> None:
        files = {name for _, guards, _ in traps() for name in re.findall(r"`([^`]+)`", guards)}
        assert [name for name in files if not any((place / name).is_file() for place in (CORE, ROOT))] == []

    @pytest.mark.parametrize(("trap", "tests"), [(trap, tests) for trap, _, tests in traps()])
    def test_have_tests_that_are_there(self, trap: str, tests: str) -> None:
        assert re.match(r"`[\w/]+\.py` `Test", tests)
        there: dict[str, set[str]] = {}
        for name in re.findall(r"`([^`]+)`", tests):
            if name.endswith(".py"):
                there = methods_by_class(CORE / name)
                continue
            title, _, method = name.partition(".")
            assert method in there[title] if method else there[title]


def methods_by_class(path: Path) -> dict[str, set[str]]:
    """The names of the tests of each class in a file."""
    classes = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    return {node.name: {name for each in node.body if (name := getattr(each, "name", ""))} for node in classes}


class TestProperties:
    def test_all_thirteen_have_tests_that_are_there_and_draw_their_input(self) -> None:
        text = (ROOT / "docs" / "properties.md").read_text("utf-8")
        rows = re.findall(r"^\| (\d+) \| .+ \| (.+) \|$", text, re.MULTILINE)
        assert [int(number) for number, _ in rows] == list(range(1, 14))
        for _, tests in rows:
            there: dict[str, set[str]] = {}
            for name in re.findall(r"`([^`]+)`", tests):
                if name.endswith(".py"):
                    there = methods_by_class(ROOT / name)
                    assert "hypothesis" in (ROOT / name).read_text("utf-8"), f"{name} draws nothing"
                else:
                    assert name in there, f"{name} is not there"


class TestWhatPeopleAreToldToType:
    def test_make_targets_exist(self) -> None:
        targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
        told = {
            target
            for page in pages()
            for line in shell_lines(page)
            for target in re.findall(r"(?:^|\s)make ([a-z0-9-]+)", line)
        }
        assert {"up", "test"} <= told
        assert told - targets == set()

    def test_commands_and_their_options_exist(self) -> None:
        known = dict(commands())
        unknown, seen = [], 0
        for page in pages():
            for line in shell_lines(page):
                for words in re.findall(r"(?:^|[\s/])busbar ((?:[a-z][a-z-]*)(?: [^|;&]*)?)", line):
                    seen += 1
                    given = words.split()
                    path = next((tuple(given[:n]) for n in (2, 1) if tuple(given[:n]) in known), None)
                    if path is None:
                        unknown.append(f"{page.name}: busbar {words}")
                        continue
                    options = {
                        name
                        for one in known[path].params
                        for name in (*one.opts, *one.secondary_opts)
                        if name[:2] == "--"
                    }
                    unknown += [f"{page.name}: {word}" for word in given if word[:2] == "--" and word not in options]
        assert seen > 5
        assert unknown == []

    def test_settings_exist(self) -> None:
        known = {variable.name for variable in VARIABLES} | {"BUSBAR_PG_BIN", "BUSBAR_SHARED"}
        known |= {variable.file_name for variable in VARIABLES if variable.secret}
        known |= {"BUSBAR_BROKER_PASSWORD", "BUSBAR_BROKER_PASSWORD_FILE"}  # read by `busbar broker-users` alone
        told = {name for page in pages() for name in re.findall(r"\bBUSBAR_[A-Z_]+\b", page.read_text("utf-8"))}
        assert told - known == set()

    def test_the_order_of_imports_on_the_map_is_the_one_that_is_enforced(self) -> None:
        contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
        (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
        drawn = re.search(r"```\n(testing .*?)```", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.DOTALL)
        assert drawn is not None
        assert drawn[1].split() == [layer for layer in layers if layer != "__main__"]
