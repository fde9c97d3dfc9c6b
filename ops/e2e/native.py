"""Runs the services of compose.yml as processes: in their order, by their commands, each once what it needs is well.

What a container would bring stands in its place: PostgreSQL from the embedded binaries, the RabbitMQ, Prometheus and
Java of this machine, HAProxy where Kong would stand, an environment that is installed like the image's. Paths, hosts
and ports are those of this machine. Not here: Kong and Grafana, and whatever only a container engine does.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ops.e2e import image, neighbours
from ops.e2e.model import Service, load
from ops.e2e.places import Places

VARIABLES = {
    "ITSM_ENDPOINT": "service-desk",
    "ITSM_URL": "http://itsm-simulator:8081",
    "ITSM_USERNAME": "busbar.integration",
    "ERP_URL": "http://erp-simulator:8082",
    "ERP_USERNAME": "BUSBAR",
    "CRM_URL": "http://crm-simulator:8083",
    "CRM_CLIENT_ID": "busbar",
}
"""What .env.example says for the simulators; in development mode, connectors may call this machine without more."""
NOT_HERE = ("grafana",)
HEALTHY_S_MAX = 120.0
JOB_S_MAX = 120.0


class Process:
    """One running replica of a service."""

    def __init__(self, service: Service, number: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.service, self.number, self.environment = service, number, environment
        self.command = tuple(command)
        self.name = f"{service.name}-{number}"
        self.log = Path(environment["HOME"]) / f"{self.name}.log"
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.environment),
                cwd=self.environment["HOME"],
                start_new_session=True,
            )

    async def healthy(self, check: Sequence[str]) -> None:
        """Wait until its health check succeeds. Raises AssertionError with the end of its log when it does not."""
        until = time.monotonic() + HEALTHY_S_MAX
        while True:
            asked = await asyncio.to_thread(
                subprocess.run, check, env=dict(self.environment), capture_output=True, text=True, check=False
            )
            if asked.returncode == 0:
                return
            if self.child.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} is not healthy: {asked.stdout}{asked.stderr}\n{self.tail()}")
            await asyncio.sleep(0.2)

    async def ended(self, within_s: float) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.to_thread(self.child.wait, within_s)

    async def stop(self) -> int:
        """Ask it to stop as docker would; kill it after its time, and then say so."""
        if self.child.poll() is None:
            os.kill(self.child.pid, neighbours.STOP_SIGNALS.get(self.service.name) or self._signal())
        try:
            return await self.ended(self.service.grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop in {self.service.grace_s:g} s:\n{self.tail()}") from None

    def _signal(self) -> signal.Signals:
        return signal.Signals[self.service.stop_signal]

    def kill(self) -> None:
        """kill -9, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", errors="replace")[-4000:]


class Native:
    """All services; `processes` holds those that run, by name of the service."""

    def __init__(self, folder: Path, programs: Path) -> None:
        folder.chmod(0o755)  # PostgreSQL runs as another user
        self.services = {name: each for name, each in load(VARIABLES).items() if name not in NOT_HERE}
        self.places = Places(folder, self.services)
        self.processes: dict[str, list[Process]] = {}
        self._path = os.pathsep.join((str(programs), os.environ["PATH"]))

    async def start(self) -> None:
        """Start everything, each service when what it needs is healthy or has ended well."""
        for service in self.services.values():
            for needed in service.needs:
                assert needed in self.processes, f"{service.name} is to start before {needed}"
            await self._start(service)

    async def stop(self) -> dict[str, int]:
        """Stop everything in the reverse order; how each ended."""
        codes = {}
        for name in reversed([name for name, service in self.services.items() if service.health]):
            replicas = self.processes.get(name, [])
            ended = await asyncio.gather(*(process.stop() for process in replicas))
            codes |= {process.name: code for process, code in zip(replicas, ended, strict=True)}
        return codes

    def kill(self) -> None:
        """kill -9 of whatever still runs."""
        for process in (each for some in self.processes.values() for each in some):
            process.kill()

    async def healthy(self, process: Process) -> None:
        """Wait until a replica's own health check succeeds."""
        text = self.places.translated(process.service)
        check = neighbours.CHECKS.get(process.service.name) or process.service.health
        program, *arguments = map(text, check)
        await process.healthy([shell_path(program, process.environment["PATH"]), *arguments])

    async def _start(self, service: Service) -> None:
        print(f"  {service.name}", flush=True)
        started = [await self._launch(service, number) for number in range(1, service.replicas + 1)]
        self.processes[service.name] = started
        for process in started:
            if service.health:
                await self.healthy(process)
            elif code := await process.ended(JOB_S_MAX):
                raise AssertionError(f"the job {service.name} ended with {code}:\n{process.tail()}")
        if service.name == "postgres":
            await neighbours.create_busbar(self.places, service, started[0].environment)

    async def _launch(self, service: Service, number: int) -> Process:
        text = self.places.translated(service)
        home = self.places.home(service, number)
        environment = {
            **{name: os.environ[name] for name in ("LANG", "TZ") if name in os.environ},
            "HOME": str(home),
            "PATH": self._path,
            **{name: text(value) for name, value in service.environment.items()},
            **self.places.own_variables(service, number),
        }
        command = [text(part) for part in service.command]
        stand_in = neighbours.STAND_INS.get(service.name)
        if stand_in is not None:
            command = await stand_in(self.places, command, environment)
        elif not service.has_entrypoint:
            command = [*image.entrypoint(), *command]
        program = shell_path(command[0], environment["PATH"])
        return Process(service, number, [program, *command[1:]], environment)


def shell_path(program: str, path: str) -> str:
    """Where a program is that is to run with another PATH than ours."""
    if "/" in program:
        return program
    for folder in path.split(os.pathsep):
        if os.access(Path(folder) / program, os.X_OK):
            return str(Path(folder) / program)
    raise AssertionError(f"there is no program {program}")


@asynccontextmanager
async def running() -> AsyncIterator[Native]:
    """All services for the time of the block; at its end they are stopped as docker would, each with status 0."""
    with tempfile.TemporaryDirectory(prefix="busbar-e2e-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        native = Native(folder, await asyncio.to_thread(image.build, folder / "image"))
        try:
            await native.start()
            yield native
            codes = await native.stop()
            wrong = {
                name: code for name, code in codes.items() if code not in neighbours.GOOD_ENDS.get(name[:-2], (0,))
            }
            assert not wrong, f"these did not end well: {wrong}"
        finally:
            native.kill()
            native.places.close()
