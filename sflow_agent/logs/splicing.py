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


class Discarded(NamedTuple):
    """Output that could not be written to its log."""

    reason: str


def move(pipe: int, file: int, limit: int) -> tuple[int, bool, Discarded | None]:
    """Move at most `limit` bytes from a non-blocking pipe to the end of a file.

    Returns how many were moved, whether the pipe is at its end (no process has it any more), and what was
    lost: a log that cannot be written must not stop its task, so its output is dropped then.
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
            return moved, False, _discard(pipe, error)
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


def move_masked(
    pipe: int, file: int, limit: int, held: bytes, mask: Masks
) -> tuple[int, bool, Discarded | None, bytes]:
    """Move like `move`, with values of secrets masked; `held` and the last result are bytes that may begin a value."""
    moved = 0
    while moved < limit:
        try:
            data = os.read(pipe, min(limit - moved, BLOCK_BYTES))
        except BlockingIOError:
            return moved, False, None, held
        moved += len(data)
        whole = held + data
        kept = mask.unfinished(whole) if data else 0
        held = whole[len(whole) - kept :]
        discarded = write_masked(file, whole[: len(whole) - kept], mask)
        if discarded is not None or not data:
            return moved, not data, discarded, held
    return moved, False, None, held


def write_masked(file: int, data: bytes, mask: Masks) -> Discarded | None:
    """Write at the end of a file, with values of secrets masked. Return why it was lost, if it was."""
    view = memoryview(mask.raw(data))
    try:
        os.lseek(file, 0, os.SEEK_END)
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        return Discarded(error.strerror or str(error))
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
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    return len(data)


def _discard(pipe: int, error: OSError) -> Discarded:
    with contextlib.suppress(BlockingIOError):
        os.read(pipe, BLOCK_BYTES)
    return Discarded(error.strerror or str(error))
