"""A real RabbitMQ for tests: nodes with Busbar's own configuration on free loopback ports, alone or as a cluster.

`rabbitmq` is the broker of the run, and `vhost` gives a test a fresh virtual host of it with the topology in place.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio

from busbar.bus.broker_users import VHOST, BrokerUser, platform_user, user_definitions
from busbar.testing.broker_ground import Ground, free_port
from busbar.testing.certificates import Certificates, make_certificates

CONFIGURATION = Path(__file__).resolve().parents[3] / "rabbitmq"
"""The configuration that the repository ships; tests run with it, and override only what a shared machine needs."""
USER = "busbar"
PASSWORD = "copper rails carry it"
START_S_MAX = 90.0
STOP_S_MAX = 60.0
CONTROL_S_MAX = 60.0
MEMORY_WATERMARK = "0.6"
VHOSTS_AT_ONCE = 8
TICK_MS = 200


class BrokerCommandFailed(AssertionError):
    """`rabbitmqctl` refused; the text is what it said."""


class QueueCount(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue stands: messages that wait, messages at consumers, consumers."""

    name: str
    ready: int = msgspec.field(name="messages_ready")
    unacked: int = msgspec.field(name="messages_unacknowledged")
    consumers: int


class TestBroker:
    """One RabbitMQ node; it keeps ports and data over `stop` or `kill` and another `start`."""

    __test__ = False

    def __init__(
        self,
        ground: Ground,
        name: str = "rabbit",
        *,
        plugins: Sequence[str] = (),
        tls: bool = False,
        users: Sequence[BrokerUser] = (),
        peers: Sequence[str] = (),
    ) -> None:
        """A node on `ground`, not started yet.

        `plugins` are names such as `rabbitmq_prometheus`; `users` come beside the platform's; `peers` are the node
        names of the whole cluster.
        """
        self.ground, self.name, self.node = ground, name, f"{name}@localhost"
        self.folder = ground.folder / name
        self.port, self.metrics_port = free_port(), free_port()
        self.tls_port = free_port() if tls else None
        self.certificates: Certificates | None = make_certificates(self.folder / "tls") if tls else None
        self._distribution_port = free_port()
        self._plugins, self._peers = tuple(plugins), tuple(peers)
        self._process: subprocess.Popen[bytes] | None = None
        self._write_definitions((platform_user(PASSWORD, name=USER), *users))

    def url_of(self, vhost: str = VHOST, *, user: str = USER, password: str = PASSWORD, port: int | None = None) -> str:
        """Address of a virtual host, for an AMQP client; `port` may be that of a proxy."""
        return f"amqp://{quote(user)}:{quote(password)}@127.0.0.1:{port or self.port}/{quote(vhost, safe='')}"

    @property
    def url(self) -> str:
        """Address of the virtual host `busbar`."""
        return self.url_of()

    @property
    def tls_url(self) -> str:
        """The same by TLS; `certificates.ca` is the authority to trust."""
        assert self.tls_port is not None, "this broker was made without tls=True"
        return f"amqps://{quote(USER)}:{quote(PASSWORD)}@localhost:{self.tls_port}/{VHOST}"

    @property
    def log(self) -> Path:
        """What the node says, over all its starts."""
        return self.folder / "node.log"

    def runs(self) -> bool:
        """Whether the process of the node lives."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the node and wait until it takes connections.

        Raises:
            AssertionError: it ends, or is not ready in time; with the end of its log.
        """
        assert not self.runs(), f"{self.node} runs already"
        self._spawn()
        try:
            async with asyncio.timeout(START_S_MAX):
                while not await self._answers():
                    if not self.runs():
                        raise AssertionError(f"RabbitMQ ended instead of getting ready:\n{self._last_lines()}")
                    await asyncio.sleep(0.05)
                await self.ctl("await_startup")
        except TimeoutError:
            raise AssertionError(f"RabbitMQ was not ready in {START_S_MAX} s:\n{self._last_lines()}") from None

    async def stop(self) -> None:
        """Shut the node down in good order, as the system does; nothing happens when it does not run."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """kill -9 of the Erlang virtual machine."""
        await self._end(signal.SIGKILL)

    async def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` for this node; returns what it prints. Raises BrokerCommandFailed."""
        process = await asyncio.create_subprocess_exec(
            self.ground.programs / "rabbitmqctl",
            *("--node", self.node, "--quiet", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.ground.environment({"RABBITMQ_CTL_DIST_PORT_MIN": "0", "RABBITMQ_CTL_DIST_PORT_MAX": "0"}),
        )
        try:
            async with asyncio.timeout(CONTROL_S_MAX):
                output, _ = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise BrokerCommandFailed(f"rabbitmqctl {' '.join(arguments)}: {output.decode().strip()}")
        return output.decode()

    async def alarm_on(self) -> None:
        """Raise the memory alarm: every publisher has to wait."""
        await self.ctl("set_vm_memory_high_watermark", "absolute", "1MB")

    async def alarm_off(self) -> None:
        """End the memory alarm."""
        await self.ctl("set_vm_memory_high_watermark", MEMORY_WATERMARK)

    async def close_connections(self) -> None:
        """Close every connection of every client, as an administrator would."""
        await self.ctl("close_all_connections", "--global", "a test closes it")

    async def delete_queue(self, name: str, *, vhost: str = VHOST) -> None:
        """Delete a queue with all that is in it."""
        await self.ctl("--vhost", vhost, "delete_queue", name)

    async def queues(self, *, vhost: str = VHOST) -> dict[str, QueueCount]:
        """All queues of a virtual host by name; the counts are at most `TICK_MS` old."""
        columns = ("name", "messages_ready", "messages_unacknowledged", "consumers")
        answer = await self.ctl("--vhost", vhost, "list_queues", "--formatter", "json", *columns)
        return {queue.name: queue for queue in msgspec.json.decode(answer, type=list[QueueCount])}

    async def leader_of(self, queue: str, *, vhost: str = VHOST) -> str:
        """The name of the node that leads a queue."""
        answer = await self.ctl("--vhost", vhost, "list_queues", "--formatter", "json", "name", "leader")
        leaders: dict[str, str] = {each["name"]: each["leader"] for each in json.loads(answer)}
        return leaders[queue].partition("@")[0]

    async def create_vhost(self) -> str:
        """A new virtual host with the topology of `rabbitmq/definitions.json`; returns its name."""
        (name,) = await self.create_vhosts(1)
        return name

    async def create_vhosts(self, count: int) -> list[str]:
        """Several at once: each call of `rabbitmqctl` starts a virtual machine, which costs more than what it does."""
        names = [f"test-{uuid4().hex}" for _ in range(count)]
        user = platform_user(PASSWORD, name=USER)
        definitions: dict[str, list[Any]] = {"permissions": []}
        for name in names:
            definitions["permissions"] += user_definitions([user], vhost=name)["permissions"]
            for part, things in self._topology(name).items():
                definitions.setdefault(part, []).extend(things)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".json") as file:
            json.dump(definitions, file)
            file.flush()
            await self.ctl("import_definitions", file.name)
        return names

    async def drop_vhost(self, *names: str) -> None:
        """Remove virtual hosts with all that is in them, and end the connections to them."""
        listed = ", ".join(f'<<"{name}">>' for name in names)
        await self.ctl("eval", f'[ok = rabbit_vhost:delete(Name, <<"a test">>) || Name <- [{listed}]].')

    @staticmethod
    def _topology(vhost: str) -> dict[str, list[dict[str, object]]]:
        parts = json.loads((CONFIGURATION / "definitions.json").read_text("utf-8"))
        for part, things in parts.items():
            for thing in things:
                thing["name" if part == "vhosts" else "vhost"] = vhost
        return parts

    def _write_definitions(self, users: Sequence[BrokerUser]) -> None:
        folder = self.folder / "definitions"
        folder.mkdir(parents=True)
        shutil.copy(CONFIGURATION / "definitions.json", folder)
        (folder / "users.json").write_text(json.dumps(user_definitions(users)))

    def _spawn(self) -> None:
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].")
        # Counts of a quorum queue are as old as its last tick; the default is five seconds.
        (self.folder / "advanced.config").write_text(f"[{{rabbit,[{{quorum_tick_interval,{TICK_MS}}}]}}].")
        overrides = self.folder / "conf.d"
        overrides.mkdir(exist_ok=True)
        (overrides / "90-test.conf").write_text("\n".join([*self._overrides(), ""]))
        self._process = self.ground.spawn(
            [str(self.ground.programs / "rabbitmq-server"), "-noinput"],
            {
                "RABBITMQ_NODENAME": self.node,
                "RABBITMQ_DIST_PORT": str(self._distribution_port),
                "RABBITMQ_CONFIG_FILE": str(CONFIGURATION / "rabbitmq.conf"),
                "RABBITMQ_CONFIG_FILES": str(overrides),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
                "RABBITMQ_LOG_BASE": str(self.folder / "log"),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_LOG": "info,-color",
                "RABBITMQ_PID_FILE": str(self.folder / "pid"),
                "RABBITMQ_ALLOW_INPUT": "1",  # the process is the virtual machine then, with no shell before it
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -start_epmd false "
                "-kernel inet_dist_use_interface {127,0,0,1}",
            },
            self.log,
        )

    def _overrides(self) -> list[str]:
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            f"load_definitions = {self.folder / 'definitions'}",
            f"vm_memory_high_watermark.relative = {MEMORY_WATERMARK}",
            "disk_free_limit.absolute = 50MB",
        ]
        if "rabbitmq_prometheus" in self._plugins:
            lines += ["prometheus.tcp.ip = 127.0.0.1", f"prometheus.tcp.port = {self.metrics_port}"]
        if self.certificates is not None:
            lines += [
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.certificates.ca}",
                f"ssl_options.certfile = {self.certificates.certificate}",
                f"ssl_options.keyfile = {self.certificates.key}",
            ]
        if self._peers:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines += [f"cluster_formation.classic_config.nodes.{n} = {peer}" for n, peer in enumerate(self._peers, 1)]
            lines.append(f"cluster_formation.target_cluster_size_hint = {len(self._peers)}")
        return lines

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self.runs():
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait, STOP_S_MAX)

    def _last_lines(self) -> str:
        return self.log.read_text("utf-8", errors="replace")[-4000:]


@contextlib.asynccontextmanager
async def broker(
    *, plugins: Sequence[str] = (), tls: bool = False, users: Sequence[BrokerUser] = ()
) -> AsyncIterator[TestBroker]:
    """A started RabbitMQ for the time of the block."""
    async with cluster(1, plugins=plugins, tls=tls, users=users) as (node,):
        yield node


@contextlib.asynccontextmanager
async def cluster(
    size: int = 3, *, plugins: Sequence[str] = (), tls: bool = False, users: Sequence[BrokerUser] = ()
) -> AsyncIterator[list[TestBroker]]:
    """Started nodes that have joined into one cluster, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="busbar-broker-", ignore_cleanup_errors=True) as name:
        ground = Ground(Path(name))
        try:
            names = [f"rabbit{number}" for number in range(1, size + 1)]
            peers = [f"{node}@localhost" for node in names] if size > 1 else []
            nodes = [TestBroker(ground, node, plugins=plugins, tls=tls, users=users, peers=peers) for node in names]
            # One after the other: the first makes the cluster, and with the last come the queues.
            for node in nodes:
                await node.start()
            yield nodes
        finally:
            await asyncio.to_thread(ground.close)


@pytest_asyncio.fixture(scope="session")
async def rabbitmq() -> AsyncIterator[TestBroker]:
    """The RabbitMQ of the run, started when the first test asks for it."""
    async with broker() as node:
        yield node


class Vhosts:
    """Fresh virtual hosts of the run's broker, made and removed some at a time."""

    def __init__(self, rabbitmq: TestBroker) -> None:
        self._rabbitmq = rabbitmq
        self._fresh: list[str] = []
        self._used: list[str] = []

    async def take(self) -> str:
        """One that nobody has used."""
        if not self._fresh:
            self._fresh = await self._rabbitmq.create_vhosts(VHOSTS_AT_ONCE)
        return self._fresh.pop()

    async def give_back(self, name: str) -> None:
        """One that is done with."""
        self._used.append(name)
        if len(self._used) >= VHOSTS_AT_ONCE:
            await self._rabbitmq.drop_vhost(*self._used)
            self._used.clear()


@pytest.fixture(scope="session")
def vhosts(rabbitmq: TestBroker) -> Vhosts:
    """Where the run's virtual hosts come from."""
    return Vhosts(rabbitmq)


@pytest_asyncio.fixture
async def vhost(vhosts: Vhosts) -> AsyncIterator[str]:
    """The name of a fresh virtual host with the topology in place; `rabbitmq.url_of(vhost)` is its address."""
    name = await vhosts.take()
    yield name
    await vhosts.give_back(name)
