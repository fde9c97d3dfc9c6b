"""The guard: a small process that owns the embedded PostgreSQL, restarts it, and ends it with the application.

`embedded.py` runs it as `python -I -S guard.py <settings as JSON>`; it imports the standard library only, and all of
it here at the top, because after giving up root it may no longer be allowed to read the interpreter's own folder.

Standard input is a pipe that the application holds open and never writes to. Its end of file is the one order to
stop, and the kernel gives it however the application ends: by itself, by a crash, by kill -9.
Standard output tells the application, one line each: `guarding`, `standby`, `failed <sentence>`.

Every application has a guard. The one that holds the lock guards; the others stand by and take over when it goes.
"""

import contextlib
import datetime
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

POLL_S = 0.2
START_POLL_S = 0.025
ORPHAN_POLL_S = 0.5
CONNECT_S_MAX = 5.0
START_ATTEMPTS_MAX = 6
RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0
STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""What the server is told, and how many seconds it is given: fast shutdown, immediate shutdown, no choice."""
LOG_BYTES_MAX = 10_000_000
CANNOT_CONNECT_NOW = b"C57P03"
"""The SQLSTATE of a server that is starting up, recovering or shutting down, as it stands in an error message."""


class AppIsGone(Exception):
    """The application closed its end of the pipe."""


class CannotStart(Exception):
    """PostgreSQL did not start; the message is a sentence for the user."""


class Server:
    """The postmaster of one cluster folder: `data`, `guard.lock`, `server.log` and the socket's folder."""

    def __init__(self, *, binaries: str, folder: str, sockets: str, options: list[str], initdb_options: list[str]):
        self.binaries = Path(binaries)
        self.data = Path(folder, "data")
        self.log = Path(folder, "server.log")
        self.socket = Path(sockets, ".s.PGSQL.5432")
        self.socket_lock = Path(sockets, ".s.PGSQL.5432.lock")
        self.pid_file = self.data / "postmaster.pid"
        self.options = options
        self.initdb_options = initdb_options
        self.process: subprocess.Popen[bytes] | None = None
        """Our own child; None while the server is an orphan that an earlier guard left behind."""

    def keep_running(self) -> NoReturn:
        """Start the server, or adopt one that runs; start it again whenever it dies. Ends by an exception only."""
        if not self.data.exists():
            self.initialise()
        self.start(attempts_max=START_ATTEMPTS_MAX)
        while True:
            tell("guarding")
            self.wait_until_dead()
            self.note("the server died; it is started again")
            self.start(attempts_max=None)

    def initialise(self) -> None:
        """Make the data folder under another name first: a kill in the middle leaves nothing that looks finished."""
        unfinished = self.data.with_name("data.unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        command = [str(self.binaries / "initdb"), "-D", str(unfinished), *self.initdb_options]
        with self.log.open("ab") as log:
            initdb = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while initdb.poll() is None:
                pause(START_POLL_S)
        except AppIsGone:
            initdb.terminate()
            initdb.wait()
            raise
        if initdb.returncode != 0:
            raise CannotStart(f"initdb failed: {self.last_complaint()}; its output is in {self.log}.")
        unfinished.rename(self.data)

    def start(self, *, attempts_max: int | None) -> None:
        """Return when the server takes connections; a failed start is tried again, `attempts_max` times in all.

        One failure is normal: the processes of a killed server need a moment to let go of its shared memory.
        """
        attempt = 0
        while not answers(self.socket):
            attempt += 1
            self.remove_stale_locks()
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [str(self.binaries / "postgres"), "-D", str(self.data), *self.options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            # No time limit: recovery after a crash takes as long as it takes, and the application has its own limit.
            poll_s = START_POLL_S
            while self.process.poll() is None:
                if answers(self.socket):
                    return
                pause(poll_s)
                poll_s = min(ORPHAN_POLL_S, poll_s * 1.2)
            self.process = None
            if attempt == attempts_max:
                raise CannotStart(f"PostgreSQL did not start: {self.last_complaint()}; its log is {self.log}.")
            pause(min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(attempt - 1, 10)))

    def wait_until_dead(self) -> None:
        """Return when the server is no more. An orphan is asked for a connection: its pid may be another's."""
        if self.process is not None:
            while self.process.poll() is None:
                self.limit_log()
                pause(POLL_S)
            self.process = None
        else:
            while answers(self.socket):
                self.limit_log()
                pause(ORPHAN_POLL_S)

    def stop(self) -> None:
        """Shut the server down, politely first; it is gone, or beyond anyone's reach, when this returns."""
        for order, patience_s in STOP_SIGNALS:
            pid = self.process.pid if self.process is not None else read_pid(self.pid_file)
            if pid is None or not self.is_alive(pid):
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)
            for _ in range(int(patience_s / START_POLL_S)):
                if not self.is_alive(pid):
                    return
                time.sleep(START_POLL_S)

    def is_alive(self, pid: int) -> bool:
        """Whether `pid` is our running child, or a running process that works in the data folder."""
        if self.process is not None:
            return self.process.poll() is None
        return works_in(pid, self.data)

    def remove_stale_locks(self) -> None:
        """Unlink lock files that name a zombie or a process that is no server of this folder.

        PostgreSQL itself only asks whether the pid exists, so after kill -9 in a container, where nobody buries the
        dead and pids start over with each run, it would refuse to start. We hold the guard's lock: no rival starts now.
        """
        for path in (self.pid_file, self.socket_lock):
            pid = read_pid(path)
            if pid is not None and not works_in(pid, self.data):
                path.unlink(missing_ok=True)

    def limit_log(self) -> None:
        """Keep one old log. Copied and emptied, not renamed: the server goes on appending to the file it has."""
        if self.log.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def note(self, text: str) -> None:
        """Add a line of ours to the server's log."""
        moment = datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="milliseconds")
        with self.log.open("a") as log:
            log.write(f"{moment} guard: {text}\n")

    def last_complaint(self) -> str:
        """The last line of the log that says what was wrong."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 8192))
            lines = log.read().decode(errors="replace").splitlines()
        found = (re.search(r"(FATAL|PANIC|ERROR|error)\b.*", line) for line in reversed(lines))
        return next((match[0] for match in found if match), "no reason was given")


def answers(path: Path) -> bool:
    """Whether a server takes connections at this socket: a real one, up to the answer to the start-up message."""
    start_up = struct.pack("!i", 196608) + b"user\0busbar\0database\0postgres\0\0"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_S_MAX)
        try:
            connection.connect(str(path))
            connection.sendall(struct.pack("!i", len(start_up) + 4) + start_up)
            reply = connection.recv(4096)
            connection.sendall(b"X\0\0\0\4")
        except OSError:
            return False
    # Any other error, say "too many connections", comes from a server that is up.
    return reply[:1] == b"R" or (reply[:1] == b"E" and CANNOT_CONNECT_NOW not in reply)


def works_in(pid: int, folder: Path) -> bool:
    """Whether `pid` has `folder` as its working directory, as a live postmaster has; a zombie has none."""
    if not Path("/proc/self/cwd").is_symlink():  # macOS: all that can be asked is whether the pid exists
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # dead, or another user's: not our server
        return False


def read_pid(path: Path) -> int | None:
    """The pid in the first line of a lock file of PostgreSQL; None without the file or the number."""
    try:
        first = path.read_text().partition("\n")[0].strip()
    except FileNotFoundError:
        return None
    return abs(int(first)) if first.lstrip("-").isdigit() else None


def pause(seconds: float) -> None:
    """Wait so long, or raise AppIsGone as soon as the application's end of the pipe is closed."""
    if select.select([0], [], [], seconds)[0] and not os.read(0, 1):
        raise AppIsGone


def tell(line: str) -> None:
    """Send a line to the application; if nobody reads any more, the next pause will notice."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())


def wait_for_turn(lock: int, server: Server) -> None:
    """Return as the only guard of the cluster; until then watch, and tell once that the other's server is up."""
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told and answers(server.socket):
                tell("standby")
                told = True
            pause(POLL_S)
        else:
            return


def become(uid: int | None, gid: int | None) -> None:
    """Give up root for good: from here on nothing in the server's folders can be used against root."""
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)


def main(settings: dict[str, Any]) -> int:
    """Guard until the application is gone; returns the exit code."""
    become(settings.pop("uid"), settings.pop("gid"))
    server = Server(**settings)
    # A handler that does nothing, not SIG_IGN: the server's processes would inherit that.
    for nuisance in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(nuisance, lambda *_: None)
    log = os.open(server.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    lock = os.open(server.log.with_name("guard.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        wait_for_turn(lock, server)
        try:
            server.keep_running()
        finally:
            server.stop()
    except AppIsGone:
        return 0
    except CannotStart as reason:
        server.note(str(reason))
        tell(f"failed {reason}")
        return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
