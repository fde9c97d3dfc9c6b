"""Starts Busbar processes quickly: everything is imported once, and each process is a fork of that.

`python -m busbar.testing.zygote` reads one JSON object a line: `{"arguments": ["serve"], "environment": {…}, "log":
"file"}` starts `busbar serve` and answers `{"pid": …}`; `{"wait": pid}` answers `{"status": …}` once it has ended, the
negative signal number if it was killed. `"input"` and `"output"` name files for its standard input and output; else it
has no input, and its output goes to the log too. It ends with its standard input, and kills what it has started.
"""

import os
import signal
import sys
import traceback
from typing import Any

import msgspec

import busbar.cli.serving  # noqa: F401 - imported here so that no fork has to
from busbar.cli import main
from busbar.host.loader import installed
from busbar.kit import crash


def serve_requests() -> None:
    """Answer requests until standard input ends."""
    for _, load in installed():
        load()
    children: set[int] = set()
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], 0)
            children.discard(pid)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = _start(request)
            children.add(pid)
            answer = {"pid": pid}
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    # The child: a process of its own from here on; it never returns.
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(request.get("input", os.devnull), os.O_RDONLY), 0)
    output = request.get("output")
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if output else log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    if "BUSBAR_CRASH" in request["environment"]:
        crash.arm(request["environment"]["BUSBAR_CRASH"])
    sys.argv = ["busbar", *request["arguments"]]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - what Python itself would do with it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve_requests()
