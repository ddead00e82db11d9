"""Runs a short program in a thread of the agent's and captures its output, within a limit of time."""

import contextlib
import os
import select
import signal
import time

from protocol.machine.procfs import is_living
from sflow_agent.processes.syscalls import memory_file, open_pidfd

_MOST_BYTES = 1 << 20
_LOOK_EVERY_S = 0.01
"""The polling interval on kernels without pidfd."""


def run_captured(argv: tuple[str, ...], timeout_s: float) -> tuple[str, str]:
    """Return (standard output, standard error) of a program.

    Raises: OSError, also when it exceeds `timeout_s`.

    Its exit status is unknown: the agent's loop reaps all children, this one too. It is started with no
    signal blocked, unlike the thread itself, because some engines would not survive that.
    """
    output = memory_file("output")
    errors = memory_file("errors")
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
        _wait(pid, argv[0], timeout_s)
        return _text(output), _text(errors)
    finally:
        os.close(output)
        os.close(errors)


def _wait(pid: int, name: str, timeout_s: float) -> None:
    """Wait until the process has ended; kill it if it takes too long. Raises: TimeoutError."""
    try:
        pidfd = open_pidfd(pid)
    except ProcessLookupError:
        return  # reaped already
    if pidfd is None:
        deadline = time.monotonic() + timeout_s
        while is_living(pid):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                raise TimeoutError(f"{name} has not answered for {timeout_s:g} s")
            time.sleep(_LOOK_EVERY_S)
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(timeout_s * 1000):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            raise TimeoutError(f"{name} has not answered for {timeout_s:g} s")
    finally:
        os.close(pidfd)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _MOST_BYTES, 0).decode(errors="replace").strip()
