"""What a container's health check says of a process that is ready, not ready, or not there."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


class Answering(BaseHTTPRequestHandler):
    """Answers as it is told to, and only where it is asked in the right place."""

    answer = (200, b"{}")

    def do_GET(self) -> None:
        status, body = self.answer if self.path in ("/health/ready", "/status") else (404, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing; this is a test."""


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), type("Told", (Answering,), {"answer": (status, body)}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_probe(*path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "busbar.observability.probe", *path]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


class TestProbe:
    @pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0", ""])  # noqa: S104 - asked, not bound
    def test_succeeds_in_silence_when_the_process_is_ready(self, listen: str) -> None:
        with answering(200, b"{}") as port:
            probed = run_probe(BUSBAR_PORT=str(port), BUSBAR_LISTEN=listen)
        assert (probed.returncode, probed.stdout, probed.stderr) == (0, "", "")

    def test_asks_for_another_path_where_it_is_given_one(self) -> None:
        with answering(200, b"{}") as port:
            asked = [run_probe(path, BUSBAR_PORT=str(port), BUSBAR_LISTEN="") for path in ("/status", "/elsewhere")]
        assert [one.returncode for one in asked] == [0, 1]

    def test_tells_why_a_process_is_not_ready(self) -> None:
        with answering(503, b'{"detail": "Failing: database."}') as port:
            probed = run_probe(BUSBAR_PORT=str(port), BUSBAR_LISTEN="")
        assert probed.returncode == 1
        assert probed.stderr == f"127.0.0.1:{port} is not ready: Failing: database.\n"

    def test_does_not_take_any_answer_for_a_ready_one(self) -> None:
        with answering(302, b"elsewhere") as port:
            probed = run_probe(BUSBAR_PORT=str(port), BUSBAR_LISTEN="")
        assert (probed.returncode, probed.stderr) == (1, f"127.0.0.1:{port} is not ready: 302\n")

    def test_fails_in_one_sentence_when_nobody_listens(self) -> None:
        with answering(200, b"{}") as port:
            pass
        probed = run_probe(BUSBAR_PORT=str(port), BUSBAR_LISTEN="")
        assert probed.returncode == 1
        assert probed.stderr == f"127.0.0.1:{port} does not answer: [Errno 111] Connection refused.\n"
