"""Children of a test that are talked to in lines of JSON."""

import json
import os
import subprocess
import sys
import threading
from typing import Any


class JsonProcess:
    """A child that speaks JSON lines over its standard streams."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self._turn = threading.Lock()

    def read(self) -> dict[str, Any]:
        """The next line that is a JSON object."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended with {self.process.wait()} instead of answering")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request, wait for its answer; threads take turns, for a stream is not made for two."""
        assert self.process.stdin is not None
        with self._turn:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return self.read()

    def close(self) -> None:
        """End it by closing its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """End it by SIGTERM."""
        self.process.terminate()
        self.process.wait(30)
