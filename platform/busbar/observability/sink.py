"""Writes log lines from a thread of its own, so that a reader that stalls never holds up the event loop."""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

LINES_MAX: Final = 20_000
"""Lines that may wait; more are dropped and counted, for memory is bounded and a log must not stop the work."""
LINGER_S: Final = 0.02
"""How long the writer gathers lines before each write: one system call for many lines."""


class LineSink:
    """Takes lines at once, writes them later, in order; says how many it had to drop."""

    def __init__(self, write: Callable[[bytes], object] | None = None, *, lines_max: int = LINES_MAX) -> None:
        self._write = write or _write_to_stdout
        self._lines_max = lines_max
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._written = threading.Condition()
        self._stop = False
        self._busy = False
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self.dropped_count = 0
        """Lines lost since the start, because the reader of the log was too slow."""

    def put(self, line: bytes) -> None:
        """Queue one line, ending with a line feed; costs about a microsecond and never waits."""
        if len(self._waiting) >= self._lines_max:
            self.dropped_count += 1
            return
        self._waiting.append(line)
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything queued is written; False if that took longer than `timeout_s` seconds."""
        if self._thread is None:
            return not self._waiting
        self._hurry.set()
        with self._written:
            return self._written.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def close(self) -> None:
        """Write what waits and end the thread."""
        self.flush()
        self._stop = True
        self._wake.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._stop:
                self._thread = threading.Thread(target=self._run, name="busbar-log", daemon=True)
                self._thread.start()
                # A daemon thread may be cut short at exit; what waits is written before.
                atexit.register(self.close)

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait()
            self._hurry.wait(LINGER_S)
            self._busy = True
            self._wake.clear()
            self._hurry.clear()
            self._drain()
            self._busy = False
            with self._written:
                self._written.notify_all()

    def _drain(self) -> None:
        while self._waiting:
            batch: list[bytes] = []
            while self._waiting and len(batch) < 500:
                batch.append(self._waiting.popleft())
            try:
                self._write(b"".join(batch))
            except (OSError, ValueError):
                # The reader is gone; nobody is left to be told, but the number shows in the metrics.
                self.dropped_count += len(batch)


def _write_to_stdout(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
