"""Opens logs of tasks to write, on the agent's side and on the controller's.

A task may have put anything where the log of another one will be.
"""

import contextlib
import errno
import os
import stat

_SAFE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_A_FILE = (errno.ELOOP, errno.ENXIO)
"""What opening a link, a FIFO without a reader, and a socket yields. Source: open(2)."""


def open_log(path: str, flags: int = 0) -> int:
    """Open a log to write, and make it if it is missing. It can be read, too: `named_file` copies it.

    A link, FIFO or device in its place is replaced, never followed nor waited for. Raises: OSError.
    """
    try:
        descriptor = _open_file(path, flags)
    except OSError as error:
        if error.errno not in _NOT_A_FILE:
            raise
        with contextlib.suppress(FileNotFoundError):  # another process has replaced it
            os.unlink(path)  # noqa: PTH108 - hot path
        descriptor = _open_file(path, flags)
    return descriptor


def _open_file(path: str, flags: int) -> int:
    descriptor = os.open(path, _SAFE | flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)
    os.set_blocking(descriptor, True)
    return descriptor
