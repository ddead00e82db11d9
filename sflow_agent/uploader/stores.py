"""What a target can do, and a target that is a directory. The one that speaks S3 is in `s3`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from protocol.messages.uploads import StorageTarget
from protocol.text.object_keys import address

BLOCK_BYTES = 1 << 20
Sent = Callable[[int], None]
"""Is called with so many further bytes that have arrived; from any thread."""


class StoreError(Exception):
    """A file could not be uploaded; the text says why. `is_final` if no other file would arrive there either."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class Store(Protocol):
    """An open target."""

    def put(self, path: str, key: str, sent: Sent) -> None:
        """Upload a file; it is there whole, or as it was before. Raises: StoreError."""


class DirectoryStore:
    """A directory of this node, which many nodes may share."""

    def __init__(self, target: StorageTarget) -> None:
        self._target = target

    def put(self, path: str, key: str, sent: Sent) -> None:
        """Copy a file, by a rename. Raises: StoreError."""
        goal = Path(address(self._target, key))
        part = goal.with_name(f".{goal.name[:200]}.{os.uname().nodename}-{os.getpid()}.part")
        try:
            goal.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy(path, part, sent)
                part.replace(goal)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            _sync_directory(goal.parent)
        except OSError as error:
            where = error.filename or str(goal)
            raise StoreError(f"{where}: {error.strerror or error}") from error


def _copy(path: str, part: Path, sent: Sent) -> None:
    """Copy content and permissions, and see it written. Raises: OSError."""
    with open(path, "rb") as source, part.open("wb") as copy:  # noqa: PTH123
        os.fchmod(copy.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
        while block := source.read(BLOCK_BYTES):
            copy.write(block)
            sent(len(block))
        copy.flush()
        os.fsync(copy.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # a file system that cannot: the file itself is written
    finally:
        os.close(descriptor)
