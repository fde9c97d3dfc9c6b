"""A real Prometheus with the configuration that the repository ships, on targets of a test."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from acceptance.processes import free_port
from acceptance.promql import PROMETHEUS, read_yaml

INTERVAL = "1s"
"""In place of 15 s, so that a test need not wait."""
READY_S_MAX = 20.0
STOP_S_MAX = 20.0


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """What an expression gives now. Raises AssertionError when Prometheus cannot evaluate it."""
        async with self._session.post(f"{self._url}/api/v1/query", data={"query": expr}) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{expr}: {told}"
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    async def has_numbers(self, expr: str) -> bool:
        """Whether an expression gives at least one value that is a number."""
        return any(sample["value"][1] != "NaN" for sample in await self.query(expr))

    async def rules(self) -> list[dict[str, Any]]:
        """All rules, as Prometheus sees them."""
        told = await self._get("rules")
        return [rule for group in told["data"]["groups"] for rule in group["rules"]]

    async def targets(self) -> dict[str, str]:
        """The health of the targets by job."""
        told = await self._get("targets")
        return {target["labels"]["job"]: target["health"] for target in told["data"]["activeTargets"]}

    async def _get(self, path: str) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{path}") as answer:
            return await answer.json()


def rewritten(ports: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The shipped configuration with other targets, by job, and shorter intervals; all else is as it is shipped."""
    configuration: dict[str, Any] = read_yaml(PROMETHEUS / "prometheus.yml")
    configuration["global"] |= {
        "scrape_interval": INTERVAL,
        "evaluation_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
    }
    configuration["rule_files"] = [str(PROMETHEUS / pattern) for pattern in configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        for way in ("dns_sd_configs", "static_configs"):
            job.pop(way, None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports[job["job_name"]]]}]
    return configuration


@contextlib.asynccontextmanager
async def prometheus(folder: Path, ports: Mapping[str, Sequence[int]]) -> AsyncIterator[Prometheus]:
    """Run it for the time of the block; its own port is put in for the job `prometheus`."""
    own = free_port()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(rewritten({**ports, "prometheus": [own]})), "utf-8")
    process = _start(folder, own)
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{own}"
            await _ready(session, url, process, folder / "prometheus.log")
            yield Prometheus(url, session)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("prometheus")
    if program is None:
        raise AssertionError("Prometheus is not installed: `ops/need.sh prometheus` installs it.")
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _ready(session: aiohttp.ClientSession, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(READY_S_MAX):
        while True:
            assert process.poll() is None, f"Prometheus ended:\n{log.read_text()[-3000:]}"
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
