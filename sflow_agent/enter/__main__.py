"""Runs one command beside a rank, for `sflow-ctl exec`: with its environment and directory, or in its container.

A program of its own, `python -I -m sflow_agent.enter PID RUN RANK STEP_PROCESS PARENT MODE PRELUDE [COMMAND...]`, started on
the rank's node by the command line or by an `srun` of it. The command has this program's terminal. Whatever it has started ends
with it, with the rank, with the client that asked for it, and with the terminal.

STEP_PROCESS is the number of a process of a job step, found on this node by its mark, or `-`: PID is the rank's process. MODE is
`terminal`, `pipe`, or `find`, which prints the node's name if the process is here, else `-`. PRELUDE is script that sets
variables first.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from protocol.machine.marks import RANK_MARKER
from protocol.machine.procfs import descendants, is_living
from sflow_agent.enter.refusal import CannotEnterError
from sflow_agent.enter.ways import SHELL, Way, process_of_step, way_beside, way_into

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_S, _GRACE_S = 0.5, 2.0
NOT_THERE = 125
"""The exit status if the rank is gone, or cannot be entered; as of `docker exec` for faults of its own."""
_ENDING = frozenset({signal.SIGTERM, signal.SIGHUP})


def main() -> NoReturn:
    """Run the command, and end with its exit status."""
    pid, run, rank, step_process, parent, mode, prelude, *command = sys.argv[1:]
    if mode == "find":
        if process_of_step(run, rank, step_process) is None:
            os.write(1, b"-\n")
            sys.exit(NOT_THERE)
        os.write(1, f"{os.environ.get('SLURMD_NODENAME') or socket.gethostname()}\n".encode())
        sys.exit(0)
    try:
        if step_process == "-":
            way = way_beside(int(pid), run, rank, command, is_terminal=mode == "terminal")
        else:
            way = _into_step(run, rank, step_process, prelude, command)
    except CannotEnterError as error:
        _refuse(str(error))
    way.variables.pop(RANK_MARKER, None)  # what it starts is not the task's
    try:
        os.chdir(f"/proc/{way.like}/cwd")
    except OSError as error:
        _refuse(f"the directory of {rank} cannot be entered: {error.strerror}")
    sys.exit(_run(way.argv, way.variables, way.like, int(parent)))


def _into_step(run: str, rank: str, process: str, prelude: str, command: Sequence[str]) -> Way:
    """Return the way beside a process of a job step. Raises: CannotEnterError."""
    found = process_of_step(run, rank, process)
    if found is None:
        raise CannotEnterError(f"process {process} of {rank} is not on this node any more")
    wanted = tuple(command or SHELL)
    if prelude:  # the step's script sets these variables after its process has been started
        wanted = ("bash", "-c", f'{prelude}exec "$@"', "sflow-exec", *wanted)
    return way_into(found, wanted)


def _refuse(text: str) -> NoReturn:
    os.write(2, f"sflow-ctl exec: {text}\n".encode())
    sys.exit(NOT_THERE)


def _run(argv: Sequence[str], variables: dict[str, str], rank_pid: int, parent: int) -> int:
    """Run a command to its end, or to that of what it belongs to; return its exit status."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDING, signal.SIGCHLD})
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal's are for the command
    child = os.fork()
    if child == 0:
        _become(argv, variables, mask)
    status: int | None = None
    while status is None:
        got = signal.sigtimedwait({*_ENDING, signal.SIGCHLD}, _LOOK_S)
        status = _reap(child)
        if status is not None:
            break
        if got is not None and got.si_signo in _ENDING:
            status = 128 + got.si_signo
        elif not is_living(rank_pid):
            os.write(2, b"sflow-ctl exec: the task has ended\n")
            status = 128 + signal.SIGHUP
        elif parent and os.getppid() != parent:
            status = 128 + signal.SIGTERM
    _end_all()
    return status


def _become(argv: Sequence[str], variables: dict[str, str], mask: Collection[int]) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvpe(argv[0], list(argv), variables)
    except OSError as error:
        os.write(2, f"sflow-ctl exec: {argv[0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    finally:
        os._exit(126)


def _reap(child: int) -> int | None:
    """Take in ended processes; return the exit status of the command if it is among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(ended)
                status = code if code >= 0 else 128 - code
    return status


def _end_all() -> None:
    """End everything that the command has started: it is all below this process."""
    for number, within_s in ((signal.SIGHUP, 0.1), (signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        left = descendants(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        waited = 0.0
        while descendants(os.getpid()) and waited < within_s:
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
            waited += 0.05
            _reap(0)


if __name__ == "__main__":
    main()
