"""Where a program keeps its data."""

import os
from pathlib import Path


def default_home(program: str = "busbar") -> Path:
    """The folder that `{PROGRAM}_HOME` names; else `/var/lib/{program}` for root, else `~/.local/share/{program}`.

    Root's own home is no default: it is closed to the unprivileged user that a server must run as.
    """
    if chosen := os.environ.get(f"{program.upper()}_HOME"):
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return Path("/var/lib", program)
    return Path("~/.local/share", program).expanduser()
