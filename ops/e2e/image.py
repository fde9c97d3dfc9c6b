"""What platform/Dockerfile makes, without an image: the same environment, by the same command, from the same files."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from ops.e2e.model import ROOT

DOCKERFILE = ROOT / "platform" / "Dockerfile"


def build(folder: Path) -> Path:
    """Install Busbar and its plugins below `folder`; returns the folder of the programs."""
    source, environment = folder / "src", folder / "busbar"
    git = shutil.which("git")
    assert git is not None, "git is not there"
    listed = subprocess.run(
        [git, "ls-files", "--cached", "--others", "--exclude-standard", *_copied()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if "tests" not in Path(name).parts and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = shlex.split(_install_command())
    assert command[0] == "uv", command
    command[0] = str(ROOT / ".tools" / "uv")
    index = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
    inherited = {name: value for name, value in os.environ.items() if name not in (*index, "VIRTUAL_ENV")}
    subprocess.run(
        [*command, "--quiet"], cwd=source, env=inherited | {"UV_PROJECT_ENVIRONMENT": str(environment)}, check=True
    )
    return environment / "bin"


def entrypoint() -> tuple[str, ...]:
    """The program that the image starts."""
    found = re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert found is not None, "platform/Dockerfile has no ENTRYPOINT"
    return tuple(json.loads(found[1]))


def _copied() -> list[str]:
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    return [source for copied in copies for source in copied.split()[:-1]]


def _install_command() -> str:
    found = re.search(r"^ +(uv sync .+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert found is not None, "platform/Dockerfile installs nothing"
    return found[1]
