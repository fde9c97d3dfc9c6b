"""What RabbitMQ nodes of a test stand on: a folder, a cookie, a port mapper of their own, and one process group."""

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

EXTRA_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian has rabbitmq-server, and where a user's PATH may not lead."""
END_S_MAX = 10
EPMD_S_MAX = 10.0
PORTS = (20_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on.

    It lies below those that systems give to outgoing connections, so that none of these takes it before its listener.
    """
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def rabbitmq_programs() -> Path:
    """The folder with RabbitMQ's programs, past Debian's wrapper, which insists on its own user.

    Raises:
        AssertionError: there is no RabbitMQ; a run must not look green without it.
    """
    found = shutil.which("rabbitmq-server", path=os.pathsep.join((os.environ.get("PATH", ""), *EXTRA_PATH)))
    if found is None:
        raise AssertionError("RabbitMQ is not installed: `ops/need.sh rabbitmq-server` installs it.")
    return Path(found).resolve().parent


class Ground:
    """The folder and the process group of one node or one cluster.

    The leader of the group is a shell that waits for the end of its standard input, which only this process holds:
    however this process ends, the shell then kills the group, itself included.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = rabbitmq_programs()
        self.epmd_port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        cookie = folder / ".erlang.cookie"
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", "cat >/dev/null; kill -9 0"], stdin=subprocess.PIPE, process_group=0
        )
        self._children: list[subprocess.Popen[bytes]] = []
        self._start_epmd()

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """What RabbitMQ's programs see: nothing of the system's or the user's configuration."""
        return {
            "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), *EXTRA_PATH)),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            **extra,
        }

    def spawn(self, command: Sequence[str], extra: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a process of the group; its output is appended to `log`."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self.environment(extra),
                process_group=self._leader.pid,
            )
        self._children.append(child)
        return child

    def _start_epmd(self) -> None:
        """Start the port mapper, and wait for it: a node that finds none would start one that outlives everything."""
        epmd = shutil.which("epmd") or "epmd"
        started = self.spawn(
            [epmd, "-port", str(self.epmd_port), "-address", "127.0.0.1"], {}, self.folder / "epmd.log"
        )
        deadline = time.monotonic() + EPMD_S_MAX
        while time.monotonic() < deadline and started.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.epmd_port), 1):
                return
            time.sleep(0.02)
        self.close()
        raise AssertionError(f"epmd does not listen on port {self.epmd_port}: {(self.folder / 'epmd.log').read_text()}")

    def close(self) -> None:
        """End whatever still runs, and wait for it."""
        assert self._leader.stdin is not None
        self._leader.stdin.close()
        for child in (self._leader, *self._children):
            child.wait(END_S_MAX)
