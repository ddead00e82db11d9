"""Reads a node's files for `success` conditions; the agent judges a task with it, the controller the whole run.

The only module of `protocol` with I/O. Nothing here blocks on a pipe or runs without a bound: a pattern may match a
whole file system.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from protocol.diagnosis.success import BLOCK_BYTES, Files, is_pattern

MAX_MATCHES = 10_000


def local_files() -> Files:
    """Return the readers of this node's files."""
    return Files(matching=_matching, read=_read, blocks=_blocks)


def _matching(path: str) -> Iterator[tuple[str, int]]:
    for number, one in enumerate(Path("/").glob(path.lstrip("/")) if is_pattern(path) else (Path(path),)):
        if number == MAX_MATCHES:
            return
        try:
            found = one.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(found.st_mode):
            yield str(one), found.st_size


def _read(path: str, limit: int) -> bytes:
    with open(path, "rb", opener=_open_file) as file:
        return file.read(limit) or b""


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb", opener=_open_file) as file:
        while data := file.read(BLOCK_BYTES):
            yield data


def _open_file(path: str, flags: int) -> int:
    """Open a file without waiting for a writer if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
