"""Watches child processes and keeps what they print, also where pidfd_open(2) or memfd_create(2) are missing or forbidden.

Launchers and the commands of Slurm use it. Imports next to nothing: the first agent is started before anything else.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sflow_ctl.runtime.supervision.supervisor import STOPS_A_RUN

_MISSING = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL)
"""Kernels before 5.3 lack pidfd_open, and some containers forbid one or both."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that stop a run: a process must be known before one of them unwinds what has started it.

    What is started within needs a signal mask of its own.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS_A_RUN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def watch_child(pid: int) -> int:
    """Return a descriptor that is readable once a child of this process has ended. Raises: OSError.

    A thread waits for it where there is no pidfd. The child stays a zombie until it is waited for.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    from protocol.machine.loop_signals import QuietThread  # on old kernels only

    descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    waiter = os.dup(descriptor)  # its own: the caller may close the other at any time

    def wait() -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # it has been waited for
        finally:
            os.eventfd_write(waiter, 1)
            os.close(waiter)

    QuietThread(wait, "child").start()
    return descriptor


def memory_file(name: str) -> int:
    """Return a descriptor of a file that no other process can open: in memory, or on disk where there is no other way.

    Raises: OSError.
    """
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    import tempfile  # on old kernels only

    descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
    os.unlink(path)  # noqa: PTH108
    return descriptor
