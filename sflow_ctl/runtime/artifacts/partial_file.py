"""A download that is not complete yet, beside its final place.

It belongs to one process, whose token is in its name. An unfinished file is renamed to a name without owner,
which contains the version of the file it is a part of; the next process takes it by rename, and only one can
succeed. So runs that fetch the same thing at the same time need no lock, which shared file systems do not
always keep, and a file with the final name is always complete.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import IO

ABANDONED_AFTER_S = 3600.0
"""An owned part that has not grown for so long is abandoned: its process was killed."""


class PartialFile:
    """This process's part of `target`. Empty until `begin` or `take`."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._token = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self.version: str | None = None
        """Identifies this version of the file; None if the server gives no identification."""
        self.size = 0

    def take(self) -> None:
        """Take over the part that an earlier run left, if there is one."""
        for path in sorted(self._target.parent.glob(f".{self._target.name}.*.part")):
            version, _, owner = path.name[len(self._target.name) + 2 : -len(".part")].partition("~")
            mine = self._named(version)
            try:
                if owner and time.time_ns() / 1e9 - path.stat().st_mtime < ABANDONED_AFTER_S:
                    continue
                os.utime(path)  # done before it is ours, so that it never looks abandoned
                path.rename(mine)
            except FileNotFoundError:
                continue  # another process was quicker
            self._path, self.version = mine, version
            self._file = mine.open("r+b")
            self.size = self._file.seek(0, os.SEEK_END)
            return

    def begin(self, version: str | None) -> None:
        """Start again with the first byte."""
        self.discard()
        self._path, self.version = self._named(version or ""), version
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Append. Raises: OSError."""
        assert self._file is not None
        self._file.write(data)
        self.size += len(data)

    def flush(self) -> Path:
        """Make all written bytes readable."""
        assert self._file is not None
        assert self._path is not None
        self._file.flush()
        return self._path

    def finish(self) -> None:
        """Give the complete file its name, once it is on disk."""
        path = self.flush()
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        path.rename(self._target)
        _sync_directory(self._target.parent)
        self._path = self._file = None

    def leave(self) -> None:
        """Release the part: another run may continue it, if its version is known."""
        if self._path is None or self._file is None:
            return
        if self.version is None or self.size == 0:
            self.discard()
            return
        with contextlib.suppress(OSError):
            self._file.close()
            self._path.rename(self._target.with_name(f".{self._target.name}.{self.version}.part"))
        self._path = self._file = None

    def discard(self) -> None:
        """Delete the part."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # bytes that could not be written are discarded
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = self._file = None
        self.size, self.version = 0, None

    def _named(self, version: str) -> Path:
        return self._target.with_name(f".{self._target.name}.{version}~{self._token}.part")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some file systems cannot do this
    finally:
        os.close(descriptor)
