"""Real Apache Camel with the routes of `ops/camel`, as a child process that can be killed and comes back as it was."""

import asyncio
import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from acceptance.processes import Ended, free_port

PROJECT = Path(__file__).resolve().parents[1] / "ops" / "camel"
BUILD_S_MAX = 900.0
READY_S_MAX = 90.0
STOP_S_MAX = 60.0


def build() -> None:
    """Build Camel if that was not done, or its sources have changed. Raises AssertionError with what Maven says."""
    target = PROJECT / "target"
    target.mkdir(exist_ok=True)
    with (target / "lock").open("w") as lock:
        # Two test runs would write the same folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = target / "built"
        if built.exists() and built.stat().st_mtime >= _changed_at():
            return
        command = [str(PROJECT / "run.sh"), "build"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
        assert done.returncode == 0, f"Camel cannot be built:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
        built.touch()


def _changed_at() -> float:
    sources = [PROJECT / "pom.xml", PROJECT / "run.sh", *(PROJECT / "src").rglob("*")]
    return max(path.stat().st_mtime for path in sources)


class Camel:
    """One Camel; it keeps its port over `kill` and another `start`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """`environment` are its settings, by the names of docs/how-to/run-camel.md; its log goes into `folder`."""
        self.log = folder / "camel.log"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CAMEL_")}
        self._environment = {
            **inherited,
            "OBSERVE_HOST": "127.0.0.1",
            "OBSERVE_PORT": str(port),
            "JAVA_OPTS": "-Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs. Raises AssertionError when none was started."""
        assert self._process is not None, "Camel was not started"
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until its health says UP. Raises Ended when it ends instead."""
        await asyncio.to_thread(build)
        self._process = await asyncio.to_thread(self._spawn)
        async with asyncio.timeout(READY_S_MAX):
            while (await self.health())["status"] != "UP":
                if self._process.poll() is not None:
                    raise Ended(f"Camel ended instead of getting ready:\n{self.log.read_text()[-4000:]}")
                await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait; nothing happens when it does not run."""
        await self._end(signal.SIGTERM)

    async def health(self) -> dict[str, Any]:
        """What /observe/health says; `status` is DOWN where nobody answers."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/observe/health") as answer:
                found: dict[str, Any] = await answer.json(content_type=None)
                return found
        except aiohttp.ClientError:
            return {"status": "DOWN"}

    async def metrics(self) -> str:
        """What Prometheus would read."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/observe/metrics") as answer:
            assert answer.status == 200, answer.status
            return await answer.text()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [str(PROJECT / "run.sh")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, number)
        try:
            await asyncio.to_thread(self._process.wait, STOP_S_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            raise AssertionError(f"Camel did not stop within {STOP_S_MAX:g} s") from None
