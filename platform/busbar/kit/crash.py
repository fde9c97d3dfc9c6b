"""Points at which a test can have the process killed: `BUSBAR_CRASH=name:n` dies at the n-th passing of `name`.

Without the variable a point costs one dictionary look-up of an empty dictionary.
"""

import os
import signal

_armed: dict[str, int] = {}


def arm(specification: str) -> None:
    """Arm the point of `name:n`; n counts from 1."""
    name, _, count = specification.partition(":")
    _armed[name] = int(count or 1)


def crash_point(name: str) -> None:
    """Die here, by SIGKILL, if the point is armed and its count has come."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("BUSBAR_CRASH"):
    arm(os.environ["BUSBAR_CRASH"])
