"""Puts an uploaded file where an import can read it: in a folder of its own, unpacked where a folder is wanted."""

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Final

from busbar.imports.readers import UnreadableFile

FILES_MAX: Final = 100
UNPACKED_BYTES_MAX: Final = 500_000_000
_CHUNK_BYTES: Final = 1 << 20


class Upload:
    """A file of an import, on disk until `remove`."""

    def __init__(self, scratch: Path, path: Path) -> None:
        self.path = path
        """The file, or the folder that was in the archive."""
        self._scratch = scratch

    def remove(self) -> None:
        """Delete it; more than once does no harm."""
        shutil.rmtree(self._scratch, ignore_errors=True)


def keep_upload(file: IO[bytes], *, as_folder: bool) -> Upload:
    """Copy `file` to a folder of its own; of a ZIP archive, with `as_folder`, its files. Blocks: call it in a thread.

    Raises:
        UnreadableFile: a folder is wanted, and the file is no ZIP archive within the limits.
    """
    scratch = Path(tempfile.mkdtemp(prefix="busbar-import-"))
    try:
        if as_folder:
            path = scratch / "folder"
            path.mkdir()
            _unpack(file, path)
        else:
            # The name is the sender's, and of no use here: readers go by what is in a file.
            path = scratch / "file"
            with path.open("wb") as out:
                shutil.copyfileobj(file, out, _CHUNK_BYTES)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Upload(scratch, path)


def _unpack(file: IO[bytes], folder: Path) -> None:
    """Only files, by the last part of their names, so nothing lands outside; sizes are counted, not believed."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if not 1 <= len(members) <= FILES_MAX:
                raise UnreadableFile(f"The archive has {len(members)} files; 1 to {FILES_MAX} are read.")
            left = UNPACKED_BYTES_MAX
            for member in members:
                path = folder / member.filename.replace("\\", "/").rsplit("/", 1)[-1]
                if path.name != path.name.strip(". ") or path.exists():
                    raise UnreadableFile(f"The archive has a file that cannot be kept: {member.filename[:80]!r}.")
                left = _copy(archive, member, path, left)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise UnreadableFile(f"A folder is sent as a ZIP archive; this cannot be unpacked: {error}") from None


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    with archive.open(member) as packed, path.open("wb") as out:
        while chunk := packed.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise UnreadableFile(f"Unpacked, the archive has more than {UNPACKED_BYTES_MAX:,} bytes.")
            out.write(chunk)
    return left
