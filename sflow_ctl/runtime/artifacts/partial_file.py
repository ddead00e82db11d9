"""A download that is not whole yet, beside the place where it will be.

It belongs to one process, whose token is in its name. What is left unfinished gets a name without owner, which says
what version of the file it is a part of; whoever comes next takes it by rename, and only one can. So runs that fetch
the same thing at the same time need no lock, which shared file systems do not always keep, and a file that has the
final name is always whole.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import IO

ABANDONED_AFTER_S = 3600.0
"""An owned part that has not grown for so long: its process was killed."""


class PartialFile:
    """The part of `target` that this process has. Empty until `begin` or `take`."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._token = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self.version: str | None = None
        """What tells this version of the file from another; None when nothing does."""
        self.size = 0

    def take(self) -> None:
        """Goes on with what an earlier run left, if there is any."""
        for path in sorted(self._target.parent.glob(f".{self._target.name}.*.part")):
            version, _, owner = path.name[len(self._target.name) + 2 : -len(".part")].partition("~")
            mine = self._named(version)
            try:
                if owner and time.time_ns() / 1e9 - path.stat().st_mtime < ABANDONED_AFTER_S:
                    continue
                os.utime(path)  # before it is ours, so that it never looks abandoned
                path.rename(mine)
            except FileNotFoundError:
                continue  # somebody else was quicker
            self._path, self.version = mine, version
            self._file = mine.open("r+b")
            self.size = self._file.seek(0, os.SEEK_END)
            return

    def begin(self, version: str | None) -> None:
        """Starts anew with the first byte."""
        self.discard()
        self._path, self.version = self._named(version or ""), version
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Adds at the end. Raises: OSError."""
        assert self._file is not None
        self._file.write(data)
        self.size += len(data)

    def flush(self) -> Path:
        """Where all that was written can be read."""
        assert self._file is not None
        assert self._path is not None
        self._file.flush()
        return self._path

    def finish(self) -> None:
        """The file is whole: it gets its name, once it is on disk."""
        path = self.flush()
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        path.rename(self._target)
        _sync_directory(self._target.parent)
        self._path = self._file = None

    def leave(self) -> None:
        """Lets go of it: the next one may go on where this one stopped, if that can be told."""
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
        """Throws away what there is."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is not wanted either
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
        pass  # some file systems have no such thing
    finally:
        os.close(descriptor)
