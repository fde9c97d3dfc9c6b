"""HAProxy in front of several processes, as an operator would put it there: it asks each whether it is well."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from acceptance.processes import free_port

CHECK_MS = 200
SEEN_S = 4 * CHECK_MS / 1000
"""After so long it has seen that a server went or came."""

# Nothing is tried again, so that no request fails only if Busbar says in time that it is about to go.
_HTTP = """
  mode http
  retries 0
  option httpchk GET /health/ready
  http-check expect status 200
"""
_TCP = """
  mode tcp
  retries 3
  option redispatch
  default-server on-marked-down shutdown-sessions
"""
_FILE = """
global
  maxconn 1000
defaults
  timeout connect 2s
  timeout client 1h
  timeout server 1h
listen front
  bind 127.0.0.1:{port}{mode}
  default-server check inter {check_ms}ms fall 1 rise 2
{servers}
"""


@asynccontextmanager
async def in_front_of(ports: Sequence[int], *, http: bool) -> AsyncIterator[int]:
    """A proxy before these ports of the loopback address, for the time of the block; gives its port."""
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "HAProxy is not installed: `ops/need.sh haproxy` installs it."
    port = free_port()
    servers = "\n".join(f"  server server{n} 127.0.0.1:{each}" for n, each in enumerate(ports, 1))
    text = _FILE.format(port=port, mode=_HTTP if http else _TCP, check_ms=CHECK_MS, servers=servers)
    with tempfile.TemporaryDirectory(prefix="busbar-haproxy-") as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text)
        process = _start(program, file)
        assert process.stdin is not None
        try:
            await asyncio.sleep(SEEN_S)
            assert process.poll() is None, f"HAProxy does not run with {text}"
            yield port
        finally:
            process.stdin.close()
            await asyncio.to_thread(process.wait, 10)


def _start(program: str, file: Path) -> subprocess.Popen[bytes]:
    # The shell ends it with its own standard input, however this process ends.
    command = ["/bin/sh", "-c", '"$0" -db -f "$1" & cat >/dev/null; kill $!; wait', program, str(file)]
    return subprocess.Popen(command, stdin=subprocess.PIPE)
