"""Runs `busbar` commands as processes of their own, on a home of the tests."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

PASSWORD = "a violet insulator sings"
COMMAND_S_MAX = 60


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    told: str
    """Standard error: what is for people."""

    @property
    def sentence(self) -> str:
        """All that was told, on one line."""
        return " ".join(self.told.split())


class Zygote:
    """Everything imported once, and each command a fork of that; `busbar.testing.zygote` is what runs."""

    def __init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUSBAR_", "DATABASE_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "busbar.testing.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**inherited, "COLUMNS": "200"},
        )
        self._one_at_a_time = asyncio.Lock()

    async def run(self, **request: Any) -> int:
        """Start a command and wait for its end; its exit code, or minus the number of the signal that ended it."""
        async with self._one_at_a_time, asyncio.timeout(COMMAND_S_MAX):
            pid = (await asyncio.to_thread(self._ask, request))["pid"]
            return int((await asyncio.to_thread(self._ask, {"wait": pid}))["status"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = msgspec.json.decode(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it, and what it has started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=COMMAND_S_MAX)


class Home:
    """A BUSBAR_HOME, and the commands that are run on it."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self._zygote = zygote
        self.folder = folder

    async def run(self, *arguments: str, text: str = "", **environment: str) -> Ended:
        """Run `busbar` with these arguments, `text` as its standard input, and nothing of our own environment set."""
        with tempfile.TemporaryDirectory(prefix="busbar-command-") as name:
            folder = Path(name)
            (folder / "input").write_text(text)
            code = await self._zygote.run(
                arguments=arguments,
                environment={"BUSBAR_HOME": str(self.folder), **environment},
                input=str(folder / "input"),
                output=str(folder / "output"),
                log=str(folder / "told"),
            )
            ended = Ended(code, (folder / "output").read_text("utf-8"), (folder / "told").read_text("utf-8"))
        assert "Traceback" not in ended.told, ended.told
        return ended

    async def ok(self, *arguments: str, text: str = "", **environment: str) -> Ended:
        """Run it; it must succeed."""
        ended = await self.run(*arguments, text=text, **environment)
        assert ended.code == 0, ended
        return ended

    async def refused(self, *arguments: str, text: str = "", **environment: str) -> str:
        """Run it; it must end with 1 and a sentence, which is returned."""
        ended = await self.run(*arguments, text=text, **environment)
        assert (ended.code, ended.out) == (1, ""), ended
        return ended.sentence


def folder_for_all() -> tempfile.TemporaryDirectory[str]:
    """A folder through which the user may pass who runs the server."""
    made = tempfile.TemporaryDirectory(prefix="busbar-cli-", ignore_cleanup_errors=True)
    Path(made.name).chmod(0o755)
    return made
