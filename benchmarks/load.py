"""Load over HTTP by wrk, which costs far less processor time than a client in Python would."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from acceptance.api import Api
from acceptance.processes import PASSWORD


class WrkMissing(RuntimeError):
    """The load generator wrk is not installed: `apt-get install wrk`, or run `make bench` as root."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a load got."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failures: int
    """Statuses of 400 and above, and broken or timed out connections."""

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


_DONE = """
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('RESULT {"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"failures":%d}\\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_REQUESTS = """
local requests, n = {}, 0
function init(arguments)
%s
end
function request()
    n = n %% #requests + 1
    return requests[n]
end
"""


async def load(
    url: str,
    *,
    authorization: str,
    connections: int,
    seconds: float,
    bodies: Sequence[dict[str, Any]] = (),
) -> Answers:
    """Ask `url` for some seconds over so many connections; with `bodies`, POST them in turn.

    Raises:
        WrkMissing: there is no wrk.
        AssertionError: a request was refused or failed, so that the numbers would say nothing.
    """
    program = shutil.which("wrk")
    if program is None:
        raise WrkMissing(WrkMissing.__doc__)
    lines = [
        f"    requests[#requests + 1] = wrk.format('POST', nil, nil, [==[{msgspec.json.encode(body).decode()}]==])"
        for body in bodies
    ]
    # The process list shows the name of the file; the secret stands in the file, which is ours alone.
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write(f"wrk.headers['Authorization'] = '{authorization}'\n")
        script.write("wrk.headers['Accept'], wrk.headers['Content-Type'] = 'application/json', 'application/json'\n")
        script.write(_REQUESTS % "\n".join(lines) if bodies else "")
        script.write(_DONE)
        script.flush()
        answers = await _run(
            program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s",
            str(Path(script.name)), url,
        )  # fmt: skip
    assert not answers.failures, f"{answers.failures} of {answers.requests} requests to {url} failed"
    return answers


async def sign_in(url: str) -> str:
    """The administrator's Authorization header."""
    async with Api(url) as api:
        answer = await api.post("/api/v1/auth/login", {"username": "admin", "password": PASSWORD})
    return f"Bearer {answer['access_token']}"


async def _run(*command: str) -> Answers:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return msgspec.json.decode(line.removeprefix("RESULT "), type=Answers)
    raise AssertionError(f"wrk ended with {process.returncode}: {output}")
