"""Keeps a log at its path: a task may delete its output directory or rename what is in it while we write there.

`sflow_agent.logs.output` uses it for the logs of ranks, `sflow_ctl.runtime.logs` for what the controller writes:
spooled logs, and the merged logs of gangs.
"""

import contextlib
import os
import stat

from protocol.machine.log_file import open_log

WRITTEN_AGAIN = "it was written again"
RESTORED_BYTES = 256 << 20
"""What a larger log had is not copied: that would hold up the output of other tasks."""


def is_at_path(descriptor: int, path: str) -> bool:
    """Return whether `path` leads to the open file, or to something that is not a file and is left alone."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for each piece of output
        if not stat.S_ISREG(found.st_mode):
            return True
        own = os.fstat(descriptor)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not known: it stays as it is
    return found.st_ino == own.st_ino and found.st_dev == own.st_dev


def keep_at_path(descriptor: int, path: str) -> bool:
    """Put an open file back that is not at its path any more; return whether that was done.

    Where it fails, what is written is lost with the directory.
    """
    if is_at_path(descriptor, path):
        return False
    try:
        put_back(descriptor, path)
    except OSError:
        return False
    return True


def put_back(descriptor: int, path: str) -> str:
    """Make an open file appear at `path` again, with its content, under the same descriptor, and return what was done.

    A file that was put there instead is continued; a link is replaced, as `open_log` does. Where the directory above the
    file's directory is missing, nothing is done: then it is not this file alone that is gone. The descriptor must be readable.

    Raises: OSError.
    """
    parent, _, name = path.rpartition("/")
    with contextlib.suppress(FileExistsError):
        os.mkdir(parent, 0o700)  # noqa: PTH102
    if os.access(path, os.F_OK) and not os.path.islink(path):  # noqa: PTH114
        _replace(descriptor, open_log(path))
        return "another file is in its place, which is continued"
    part = f"{parent}/.{name}.{os.getpid()}"
    new = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        is_whole = _copy(descriptor, new)
        os.rename(part, path)  # noqa: PTH104
    except OSError:
        os.close(new)
        with contextlib.suppress(OSError):
            os.unlink(part)  # noqa: PTH108
        raise
    _replace(descriptor, new)
    return WRITTEN_AGAIN if is_whole else "it begins anew, since it was too large to be written again"


def _replace(descriptor: int, new: int) -> None:
    os.dup2(new, descriptor, inheritable=False)
    os.close(new)


def _copy(source: int, target: int) -> bool:
    size = os.fstat(source).st_size
    if size > RESTORED_BYTES:
        return False
    offset = 0
    while offset < size and (data := os.pread(source, 1 << 20, offset)):
        offset += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    return True
