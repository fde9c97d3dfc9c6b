"""`python -m busbar.observability.probe [PATH]`: whether the process of this environment is well.

For the health checks of containers. It asks PATH, or `/health/ready`, at BUSBAR_PORT; exits with 0 when the answer is
200, and else with 1 and one sentence. It is started every few seconds, so it imports nothing but what Python brings.
"""

import http.client
import json
import os
import sys
from collections.abc import Mapping

TIMEOUT_S = 3.0
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


def probe(environment: Mapping[str, str], path: str = "/health/ready") -> str | None:
    """None when the process is well, else a sentence that says what is wrong."""
    host = environment.get("BUSBAR_LISTEN", "").strip()
    host = "127.0.0.1" if host in _EVERYWHERE else host
    port = int(environment.get("BUSBAR_PORT", "").strip() or 8000)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{host}:{port} does not answer: {error or type(error).__name__}."
    finally:
        connection.close()
    if answer.status == 200:
        return None
    return f"{host}:{port} is not ready: {_detail(body) or answer.status}"


def _detail(body: bytes) -> str | None:
    try:
        problem = json.loads(body)
    except ValueError:
        return None
    return problem.get("detail") if isinstance(problem, dict) else None


if __name__ == "__main__":
    trouble = probe(os.environ, *sys.argv[1:2])
    if trouble is not None:
        sys.stderr.write(f"{trouble}\n")
        sys.exit(1)
