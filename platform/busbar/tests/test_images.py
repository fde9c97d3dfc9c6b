"""The Dockerfiles: a linter passes them, and what they copy and run is there. Nothing is built here."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from busbar.tests.test_house import ROOT

CONTEXTS = {"platform/Dockerfile": ROOT, "ops/camel/Dockerfile": ROOT / "ops" / "camel"}
"""Each with the folder that is sent to the builder."""


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Name and arguments of each instruction, continued lines joined, without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / dockerfile).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, rest in re.findall(r"^([A-Z]+) (.+)$", text, re.MULTILINE)]


def arguments(dockerfile: str, name: str) -> list[str]:
    return [rest for known, rest in instructions(dockerfile) if known == name]


def ignored(context: Path, name: str) -> bool:
    """Whether .dockerignore keeps a file at the top of the context from the builder; the last rule that fits wins."""
    kept_out = False
    for line in (context / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(name, line.removeprefix("!")):
            kept_out = not line.startswith("!")
    return kept_out


@pytest.mark.parametrize("dockerfile", CONTEXTS)
class TestDockerfile:
    def test_passes_the_linter(self, dockerfile: str) -> None:
        linter = ROOT / ".venv" / "bin" / "hadolint"
        linted = subprocess.run([linter, ROOT / dockerfile], capture_output=True, text=True, check=False)
        assert (linted.returncode, linted.stdout) == (0, "")

    def test_starts_from_images_of_one_version(self, dockerfile: str) -> None:
        images = [image.partition(" AS ")[0] for image in arguments(dockerfile, "FROM")]
        assert len(images) == 2
        assert [image for image in images if not re.search(r":\d+\.\d+\.\d+\S*$", image)] == []

    def test_copies_what_is_there_and_what_the_builder_is_sent(self, dockerfile: str) -> None:
        context = CONTEXTS[dockerfile]
        sources = [
            source
            for copied in arguments(dockerfile, "COPY")
            if not copied.startswith("--from=")
            for source in copied.split()[:-1]
        ]
        assert sources
        tracked = subprocess.run(["git", "ls-files"], cwd=context, capture_output=True, text=True, check=True)
        tops = {line.partition("/")[0] for line in tracked.stdout.splitlines()}
        assert [source for source in sources if source not in tops or ignored(context, source)] == []

    def test_sends_the_builder_no_secret(self, dockerfile: str) -> None:
        assert all(ignored(CONTEXTS[dockerfile], name) for name in ("secrets", ".env", ".git", ".venv"))

    def test_runs_as_a_user_without_rights_and_takes_signals_itself(self, dockerfile: str) -> None:
        assert arguments(dockerfile, "USER")[-1] == "10001:10001"
        assert all(entry.startswith("[") for entry in arguments(dockerfile, "ENTRYPOINT"))


class TestImageOfBusbar:
    def test_installs_from_the_lock_with_the_same_uv_as_make(self) -> None:
        runs = " ".join(arguments("platform/Dockerfile", "RUN"))
        version = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert version is not None
        assert f"uv=={version[1]}" in runs
        assert "uv sync --frozen --no-dev" in runs

    def test_checks_its_health_with_a_module_that_is_there(self) -> None:
        assert (ROOT / "platform" / "busbar" / "observability" / "probe.py").is_file()
        (check,) = arguments("platform/Dockerfile", "HEALTHCHECK")
        assert check.endswith('CMD ["python", "-m", "busbar.observability.probe"]')


class TestImageOfCamel:
    def test_starts_the_jar_that_maven_makes(self) -> None:
        copied = " ".join(arguments("ops/camel/Dockerfile", "COPY"))
        pom = (ROOT / "ops" / "camel" / "pom.xml").read_text("utf-8")
        name, version = re.search(r"<artifactId>(\S+)</artifactId>\s*<version>(\S+)</version>", pom).groups()  # type: ignore[union-attr]
        jar = f"target/{name}-{version}.jar"
        assert jar in copied
        assert jar in (ROOT / "ops" / "camel" / "run.sh").read_text("utf-8")
