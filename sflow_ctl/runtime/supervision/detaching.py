"""Detaches a run from the terminal that starts it: `run --detach`. Called by `__main__`, before there is a supervisor.

The caller's process waits until the run has begun, prints its name and leaves; what the run prints before that, an error for
instance, is shown there. The run is in a session of its own, so that closing the terminal does not reach it, and prints to a
file in its directory from then on. It imports next to nothing, as the supervisor does.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

CONSOLE = ".sflow/console.log"
"""In the run directory: what a run prints that has no terminal."""
FOR_VIEW = "SFLOW_DETACHED_FOR_VIEW"
"""Variable with which `run --tui` and `run --json` start a run. Tasks do not get it.

It is answered with one line: how many signals were passed on to the run, and the run directory. Those of `STOPPING` are blocked
when the program starts with it, so that none meets a half-started interpreter.
"""
STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Signals that are passed on to a run."""
_LOOK_S = 0.2
_announcing: int | None = None
"""In a detached run that has not begun: where the caller's process waits for its name."""
_is_detached = False


def detaches(argv: Sequence[str]) -> bool:
    """Return whether these arguments of the program ask to detach a run, by the words themselves."""
    words = [word for word in argv if word != "--debug"]
    before = words[: words.index("--")] if "--" in words else words
    return before[:1] == ["run"] and "--detach" in before and not {"-h", "--help", "--dry-run"} & set(before)


def detach() -> None:
    """Return in the process of a run that no terminal reaches. The caller's process never returns. Raises: OSError."""
    global _announcing, _is_detached
    is_for_view = bool(os.environ.pop(FOR_VIEW, ""))
    if is_for_view:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # until there is a run they end this process
    reading, writing = os.pipe()
    early = os.memfd_create("sflow-early-output", os.MFD_CLOEXEC)
    given = _standard_input() if "-" in sys.argv else os.open(os.devnull, os.O_RDONLY)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # from here on none may end the caller alone
    run = os.fork()
    if run:
        os.close(writing)
        _Caller(run, reading, early, is_for_view).wait()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(reading)
    os.setsid()
    os.dup2(given, 0)
    for number in (1, 2):
        os.dup2(early, number)
    os.close(given)
    os.close(early)
    _announcing, _is_detached = writing, True


def _standard_input() -> int:
    """Return a copy of what comes on standard input, read to its end: a workflow file. Raises: OSError."""
    copy = os.memfd_create("sflow-standard-input", os.MFD_CLOEXEC)
    while block := os.read(0, 1 << 20):
        while block:
            block = block[os.write(copy, block) :]
    os.lseek(copy, 0, os.SEEK_SET)
    return copy


def begin_in(directory: Path) -> None:
    """Print to a file in the run directory from now on, and tell the caller's process the run's name. For detached runs.

    Called by each controller of the run. Raises: OSError.
    """
    global _announcing
    if not _is_detached:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    console = os.open(directory / CONSOLE, flags, 0o600)
    for number in (1, 2):
        os.dup2(console, number)
    os.close(console)
    if _announcing is not None:
        with contextlib.suppress(OSError):  # the caller's terminal was closed
            os.write(_announcing, os.fsencode(directory))
        os.close(_announcing)
        _announcing = None


class _Caller:
    """The caller's process: shows what the run says before it begins."""

    def __init__(self, run: int, reading: int, early: int, is_for_view: bool) -> None:
        self._run, self._reading, self._early, self._is_for_view = run, reading, early, is_for_view
        self._shown = self._passed_on = 0

    def wait(self) -> NoReturn:
        """Wait until the run has begun or ended, say so, and end."""
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda got, _frame: self._pass_on(got))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        while not select.select([self._reading], [], [], _LOOK_S)[0]:
            self._show_early()
        said = os.read(self._reading, 65536)
        self._show_early()
        if not said:
            _, status = os.waitpid(self._run, 0)
            self._show_early()
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        directory = os.fsdecode(said)
        if self._is_for_view:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # those that come now are the caller's
            _write(1, f"{self._passed_on} {os.path.abspath(directory)}\n")  # noqa: PTH100 - pathlib is for larger programs
            os._exit(0)
        _write(2, f"Detached; its output is in {directory}/{CONSOLE}, and `sflow-ctl attach` follows it.\n")
        name = os.path.basename(directory)  # noqa: PTH119 - pathlib is for larger programs
        if "--json" in sys.argv:
            import json  # few runs are started by programs

            started = {"version": 1, "type": "run", "run_id": name, "directory": os.path.abspath(directory)}  # noqa: PTH100
            name = json.dumps(started)
        _write(1, f"{name}\n")
        os._exit(0)

    def _pass_on(self, number: int) -> None:
        """Signal the run: it has not begun, and the terminal does not reach it."""
        self._passed_on += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._run, number)

    def _show_early(self) -> None:
        text = os.pread(self._early, 1 << 20, self._shown)
        self._shown += len(text)
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(2, text) :]


def _write(number: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(number, os.fsencode(text))
