"""Moves output from a pipe into a log, without a copy through Python.

Agent and guardian both use it, so it imports as little as possible.
"""

import contextlib
import errno
import os
from typing import NamedTuple, Protocol

BLOCK_BYTES = 1 << 20
_NO_SPLICE = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""Errors of a file system, kernel or container without splice(2)."""


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


class Masks(Protocol):
    """What `move_masked` needs of `protocol.text.masking.Mask`."""

    def raw(self, data: bytes) -> bytes:
        """Return bytes with marks in place of values."""

    def unfinished(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a value."""


class Pending:
    """What masking holds back of one rank's output."""

    def __init__(self) -> None:
        self.head = b""
        """The end of what was printed, while it may be the beginning of a value."""
        self.backlog = b""
        """Masked, and not written because the disk is full."""


def move_masked(
    pipe: int, file: int, limit: int, pending: Pending, mask: Masks
) -> tuple[int, bool, Unwritten | None]:
    """Move like `move`, with values of secrets masked."""
    moved = 0
    unwritten = _write_backlog(file, pending)
    while unwritten is None and moved < limit:
        try:
            data = os.read(pipe, min(limit - moved, BLOCK_BYTES))
        except BlockingIOError:
            return moved, False, None
        moved += len(data)
        unwritten = write_masked(file, pending, data, mask)
        if not data:
            return moved, unwritten is None or not unwritten.is_held, unwritten
    return moved, False, unwritten


def write_masked(file: int, pending: Pending, data: bytes, mask: Masks) -> Unwritten | None:
    """Write at the end of a file, with values of secrets masked; no data means that none follows.

    Returns why something was not written, if it was not. What a full disk does not take stays in the backlog.
    """
    whole = pending.head + data
    kept = mask.unfinished(whole) if data else 0
    pending.head = whole[len(whole) - kept :]
    pending.backlog += mask.raw(whole[: len(whole) - kept])
    return _write_backlog(file, pending)


def _write_backlog(file: int, pending: Pending) -> Unwritten | None:
    try:
        os.lseek(file, 0, os.SEEK_END)
        while pending.backlog:
            pending.backlog = pending.backlog[os.write(file, pending.backlog) :]
    except OSError as error:
        is_held = error.errno in _FULL
        if not is_held:
            pending.backlog = b""
        return Unwritten(error.strerror or str(error), is_held)
    return None


def _splice(pipe: int, file: int, limit: int) -> int:
    """Splice from the pipe to the file. Raises: OSError of the file or, as BlockingIOError, of the pipe."""
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
