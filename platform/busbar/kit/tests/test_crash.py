"""Crash points: armed by the variable or the test kit only, and then deadly at exactly the asked passing."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from busbar.kit import crash

THREE_PASSINGS = """
import sys
from busbar.kit.crash import crash_point
for number in range(3):
    crash_point("here")
    print(number, flush=True)
"""


def passed(armed: str | None) -> tuple[int, str]:
    """Pass the point `here` three times in a process of its own: how it ended, and what it could print."""
    environment = {name: value for name, value in os.environ.items() if name != "BUSBAR_CRASH"}
    if armed is not None:
        environment["BUSBAR_CRASH"] = armed
    ended = subprocess.run(
        [sys.executable, "-c", THREE_PASSINGS], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return ended.returncode, "".join(ended.stdout.split())


class TestCrashPoint:
    @pytest.mark.parametrize(
        ("armed", "status", "printed"),
        [
            (None, 0, "012"),
            ("", 0, "012"),
            ("elsewhere:1", 0, "012"),
            ("here", -signal.SIGKILL, ""),
            ("here:1", -signal.SIGKILL, ""),
            ("here:3", -signal.SIGKILL, "01"),
            ("here:4", 0, "012"),
        ],
    )
    def test_kills_at_the_asked_passing_and_nowhere_else(self, armed: str | None, status: int, printed: str) -> None:
        assert passed(armed) == (status, printed)


class TestInProduction:
    def test_nothing_is_armed_by_importing_the_whole_program(self) -> None:
        program = (
            "from busbar.host.loader import installed\n"
            "import busbar.cli.serving, busbar.testing.app\n"
            "for _, load in installed(): load()\n"
            "from busbar.kit import crash\n"
            "assert crash._armed == {}, crash._armed\n"
        )
        environment = {name: value for name, value in os.environ.items() if name != "BUSBAR_CRASH"}
        subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=True)
        assert crash._armed == {}, "this process has no point armed either"

    def test_only_the_test_kit_arms_one(self) -> None:
        root = Path(__file__).resolve().parents[4]
        callers = {
            str(path.relative_to(root))
            for path in [*root.glob("platform/**/*.py"), *root.glob("plugins/**/*.py")]
            if "tests" not in path.parts and ".venv" not in path.parts and _calls_arm(path)
        }
        assert callers == {"platform/busbar/kit/crash.py", "platform/busbar/testing/zygote.py"}

    def test_the_test_kit_is_imported_by_nothing_that_runs(self) -> None:
        root = Path(__file__).resolve().parents[4] / "platform" / "busbar"
        product = [path for path in root.glob("**/*.py") if not {"tests", "testing"} & set(path.parts)]
        assert [path for path in product if "busbar.testing" in path.read_text("utf-8")] == []


def _calls_arm(path: Path) -> bool:
    return any(
        isinstance(node, ast.Call)
        and ((isinstance(node.func, ast.Name) and node.func.id == "arm")
             or (isinstance(node.func, ast.Attribute) and node.func.attr == "arm"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    )  # fmt: skip
