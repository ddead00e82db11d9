"""Runs one command beside a rank, for `sflow-ctl exec`: with its environment and directory, or in its container.

A program of its own, `python -I -m sflow_agent.enter PID RUN RANK PARENT IS_TERMINAL [COMMAND...]`, started on the rank's node
by the command line or by an `srun` of it. The command has this program's terminal. Whatever it has started ends with it, with
the rank, with the client that asked for it, and with the terminal.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

from protocol.machine.marks import RANK_MARKER, RUN_MARKER
from protocol.machine.procfs import command_line, descendants, environment, is_living

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LOOK_S, _GRACE_S = 0.5, 2.0
NOT_THERE = 125
"""The exit status if the rank is gone, or cannot be entered; as of `docker exec` for faults of its own."""
_SHELL = ("sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec sh")
_ENGINES = (b"docker", b"podman")
_OTHERS = (b"apptainer", b"singularity", b"enroot", b"ssh", b"srun")
_ENDING = frozenset({signal.SIGTERM, signal.SIGHUP})


def main() -> NoReturn:
    """Run the command, and end with its exit status."""
    pid, run, rank, parent, is_terminal, *command = sys.argv[1:]
    variables = dict(_split(one) for one in environment(int(pid)) if not one.startswith(b"=") and one)
    if (variables.get(RUN_MARKER), variables.get(RANK_MARKER)) != (run, rank):
        _refuse(f"{rank} has no process {pid} here any more")
    argv = _argv(int(pid), command, is_terminal == "1")
    variables.pop(RANK_MARKER)  # what it starts is not the task's
    try:
        os.chdir(f"/proc/{pid}/cwd")
    except OSError as error:
        _refuse(f"the directory of {rank} cannot be entered: {error.strerror}")
    sys.exit(_run(argv, variables, int(pid), int(parent)))


def _split(variable: bytes) -> tuple[str, str]:
    name, _, value = os.fsdecode(variable).partition("=")
    return name, value


def _refuse(text: str) -> NoReturn:
    os.write(2, f"sflow-ctl exec: {text}\n".encode())
    sys.exit(NOT_THERE)


def _argv(pid: int, command: Sequence[str], is_terminal: bool) -> list[str]:
    """Return the command as it is started here: by the container's engine if the rank is in a container."""
    wanted = list(command or _SHELL)
    for one in (pid, *descendants(pid)):
        words = command_line(one)
        program = os.path.basename(words[0]) if words else b""  # noqa: PTH119 - bytes
        if program in _ENGINES and b"run" in words:
            name = _name_of_container(words)
            if name is None:
                _refuse(f"the container's name is not in the command of process {one}")
            engine = [os.fsdecode(word) for word in words[: words.index(b"run")]]
            terminal = ["--tty"] if is_terminal else []
            return [*engine, "exec", "--interactive", *terminal, name, *wanted]
        if program in _OTHERS and one == pid:
            _refuse(
                f"its process is {os.fsdecode(program)}, and what that has started cannot be entered from here"
            )
    return wanted


def _name_of_container(words: Sequence[bytes]) -> str | None:
    for index, word in enumerate(words):
        if word.startswith(b"--name="):
            return os.fsdecode(word.removeprefix(b"--name="))
        if word == b"--name" and index + 1 < len(words):
            return os.fsdecode(words[index + 1])
    return None


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
