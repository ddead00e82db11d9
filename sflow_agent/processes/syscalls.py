"""Linux interfaces that the standard library lacks, or that a kernel or container may lack."""

import errno
import os

_PR_SET_NAME = 15


def wipe_variable(name: str) -> None:
    """Overwrite an environment variable's value where `/proc/PID/environ` shows it; it stays set, empty.

    Must run before anything changes the environment: a copy made by setenv(3) is not found.
    """
    import ctypes  # in a job step

    prefix = name.encode() + b"="
    entries = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    index = 0
    while entries and (address := entries[index]):
        if ctypes.string_at(address, len(prefix)) == prefix:
            length = len(ctypes.string_at(address)) - len(prefix)
            ctypes.memset(address + len(prefix), 0, length)
        index += 1


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor of a process; None if there is none. Raises: ProcessLookupError.

    Kernels before 5.3 lack pidfd_open, some containers forbid it, and there may be no descriptor left: the
    caller polls the process instead.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def memory_file(name: str) -> int:
    """Return a descriptor of a file that no other process can open: in memory, or on disk where memfd_create is missing.

    Raises: OSError.
    """
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL):
            raise
    import tempfile  # 5 ms, on old kernels only

    descriptor, path = tempfile.mkstemp(prefix=f"sflow-{name}-")
    os.unlink(path)  # noqa: PTH108
    return descriptor


def hide_name(name: str) -> None:
    """Replace what `ps` shows of this process, its name and its arguments. Source: prctl(2); proc(5), arg_start."""
    import ctypes  # while agent and controller do something else

    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if start and end > start:
        ctypes.memset(start, 0, end - start)
        shown = name.encode()[: end - start - 1]
        ctypes.memmove(start, shown, len(shown))
