"""Writes bytes to a terminal, pipe or file until that takes no more. Called by the console's writing thread."""

import errno
import os
import select
from contextlib import suppress

WRITE_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""A larger pipe means fewer switches between us and the reader: 64 KiB is filled by 0.4 ms of fast output."""
F_SETPIPE_SZ = 1031
"""fcntl(2), Linux; a constant here because importing `fcntl` for one number costs time."""


class Stream:
    """A descriptor, and whether it still takes bytes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.is_broken = False
        self.failure: str | None = None
        """The reason why output stopped before its end, unless its reader has gone away."""

    def enlarge(self) -> None:
        """Let a pipe hold more."""
        import fcntl

        with suppress(OSError):  # not a pipe, or above the user's limit
            fcntl.fcntl(self.descriptor, F_SETPIPE_SZ, PIPE_BYTES)

    def write(self, data: bytes) -> None:
        """Write all of it, unless the stream breaks."""
        view = memoryview(data)
        while view and not self.is_broken:
            try:
                view = view[os.write(self.descriptor, view[:WRITE_BYTES]) :]
            except BlockingIOError:
                # Another process that shares the stream has made it non-blocking.
                waiter = select.poll()
                waiter.register(self.descriptor, select.POLLOUT)
                waiter.poll(1000)
            except InterruptedError:
                continue
            except OSError as error:
                self._break(error)

    def _break(self, error: OSError) -> None:
        """Stop writing: the reader has gone (EPIPE), the terminal is gone (EIO), or the disk is full."""
        self.is_broken = True
        if error.errno not in (errno.EPIPE, errno.EIO):
            self.failure = f"output is no longer shown: {error.strerror}"
