"""What a program says, asked from a thread of the agent's and never for longer than its limit."""

import contextlib
import os
import select
import signal

_MOST_BYTES = 1 << 20


def answer(argv: tuple[str, ...], within_s: float) -> tuple[str, str]:
    """(standard output, standard error) of a program. Raises: OSError, also when it does not answer in time.

    Its exit status is not known: the agent's loop reaps all children, this one too. It is started with nothing blocked,
    which the thread's own signals are, and which some engines would not survive.
    """
    output = os.memfd_create("answer", os.MFD_CLOEXEC)
    errors = os.memfd_create("errors", os.MFD_CLOEXEC)
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            {**os.environ, "LC_ALL": "C"},
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
            ),
            setsid=True,
            setsigmask=(),
        )
        _wait(pid, argv[0], within_s)
        return _text(output), _text(errors)
    finally:
        os.close(output)
        os.close(errors)


def _wait(pid: int, name: str, within_s: float) -> None:
    """Until the process has ended; ends it otherwise. Raises: TimeoutError."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # reaped already
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(within_s * 1000):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            raise TimeoutError(f"{name} has not answered for {within_s:g} s")
    finally:
        os.close(pidfd)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _MOST_BYTES, 0).decode(errors="replace").strip()
