"""`ops/need.sh` does nothing where a program is there, and says in a sentence what is to be done where it is not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from busbar.tests.test_house import ROOT, tracked

SCRIPT = ROOT / "ops" / "need.sh"


def need(*names: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {} if path is None else {"PATH": path}
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *names],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A machine with a shell, and with nothing to install programs with."""
    for tool in ("id", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    return str(tmp_path)


class TestNeed:
    def test_says_and_does_nothing_where_the_program_is_there(self) -> None:
        done = need("rabbitmq-server")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_says_what_to_install_where_it_cannot(self, bare_path: str) -> None:
        done = need("java", "wrk", path=bare_path)
        assert done.returncode == 1
        assert done.stderr.startswith(
            "Missing: java wrk. Install it (Debian and Ubuntu, as root: apt-get install openjdk-17-jre-headless wrk)"
        )

    def test_refuses_what_it_does_not_know(self) -> None:
        done = need("frobnicator")
        assert (done.returncode, done.stderr.startswith("ops/need.sh does not know frobnicator")) == (1, True)

    def test_knows_every_name_that_the_repository_asks_it_for(self, bare_path: str) -> None:
        told = "\n".join(path.read_text("utf-8") for path in tracked(".py", ".md", ".sh", ".yml") if path != SCRIPT)
        run = "\n".join(path.read_text("utf-8") for path in (*tracked(".md", ".sh"), ROOT / "Makefile"))
        lines = re.findall(r"`ops/need\.sh((?: [a-z-]+)+)`", told)
        lines += re.findall(r"^(?:.*(?:\|\||&&|@) ?)?\"?[$\w/]*ops/need\.sh\"?((?: [a-z-]+)+)$", run, re.MULTILINE)
        names = {name for line in lines for name in line.split()}
        assert {"rabbitmq-server", "prometheus", "maven"} <= names
        assert "does not know" not in need(*names, path=bare_path).stderr
