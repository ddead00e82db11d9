"""Moves what a pipe holds into a log, without a copy through Python. Agent and guardian both use it; imports next to nothing."""

import contextlib
import errno
import os
from typing import NamedTuple

BLOCK_BYTES = 1 << 20
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""A file system, kernel or container without it."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


class Unwritten(NamedTuple):
    """Output that could not be written to its log."""

    reason: str
    is_held: bool = False
    """It is still in the pipe, because the disk is full, and may be tried again."""


def move(pipe: int, file: int, limit: int, *, holds: bool = True) -> tuple[int, bool, Unwritten | None]:
    """Move at most `limit` bytes from a non-blocking pipe to the end of a file.

    Returns how many were moved, whether the pipe is at its end (no process has it any more), and what was not written.
    Output stays in the pipe while the disk is full, unless `holds` is false. A log that cannot be written for another
    reason must not stop its task, so its output is dropped.
    """
    moved = 0
    while moved < limit:
        # The file's end, wherever that is now: a task may have truncated its log, or written to it by name.
        os.lseek(file, 0, os.SEEK_END)
        try:
            count = _splice(pipe, file, min(limit - moved, BLOCK_BYTES))
        except BlockingIOError:
            return moved, False, None
        except OSError as error:
            if holds and error.errno in _FULL:
                return moved, False, Unwritten(error.strerror or str(error), is_held=True)
            return moved, False, discard(pipe, error.strerror or str(error))
        if count == 0:
            return moved, True, None
        moved += count
    return moved, False, None


def _splice(pipe: int, file: int, limit: int) -> int:
    """Raises: OSError, of the file or, as BlockingIOError, of the pipe."""
    try:
        return os.splice(pipe, file, limit, flags=os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_SPLICE:
            raise
    data = os.read(pipe, min(limit, 1 << 16))
    view = memoryview(data)  # what a full disk does not take of it is lost
    while view:
        view = view[os.write(file, view) :]
    return len(data)


def discard(pipe: int, reason: str) -> Unwritten:
    """Drop what a pipe holds."""
    with contextlib.suppress(BlockingIOError):
        os.read(pipe, BLOCK_BYTES)
    return Unwritten(reason)
