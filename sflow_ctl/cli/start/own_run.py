"""A run that this process has started in another session, and answers for: `run --tui` and `run --json`.

No terminal and no shell reaches such a run, so signals that stop a run are passed on to its supervisor: it ends as a run in the
foreground does, with the same exit status, and a second signal kills at once.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from protocol.machine.procfs import is_same_process
from protocol.text.ansi import printable_line
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.supervision.detaching import CONSOLE, FOR_VIEW, STOPPING

LOOK_S = 0.05


class OwnRun:
    """One run, and the signals that have come for it."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        """Its run directory; None unless it has begun."""
        self.signals: list[int] = []
        """What has come since `start`. All of them reach the run."""
        self.on_signal: Callable[[], object] = lambda: None
        """Called with each, in the handler."""
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = self._pid_started = 0

    def start(self, command: Sequence[str], stdin: int | None = subprocess.DEVNULL) -> int:
        """Start it by a command with `--detach`; return the command's exit status once the run has begun or ended."""
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._take)
        env = {**os.environ, FOR_VIEW: "1"}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            child = subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, env=env, start_new_session=True
            )
            self._child = child
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        said, _ = child.communicate()
        if child.returncode == 0 and said:
            passed_on, directory = said.rstrip(b"\n").split(b" ", 1)
            self._begun(Path(os.fsdecode(directory)), int(passed_on))
        return child.returncode if child.returncode >= 0 else 128 - child.returncode

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self._pass_on(signal.SIGINT)

    def let_go(self) -> bool:
        """Leave it running, and its signals to the system; return False if one has come, which stops it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            if not self.signals:
                for number in STOPPING:
                    signal.signal(number, signal.SIG_DFL)
            return not self.signals
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def lives(self) -> bool:
        """Return whether it still has a process that answers for it; False once its report is written."""
        return is_same_process(self._pid, self._pid_started)

    def show_end(self, place: int) -> None:
        """Print what it prints from a place of its console on, until it has ended."""
        assert self.directory is not None
        rest = b""
        with (self.directory / CONSOLE).open("rb") as console:
            console.seek(place)
            is_over = False
            while not is_over:
                is_over = not self.lives()
                rest += console.read()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    print_line(printable_line(line.decode(errors="replace")))
                if not is_over:
                    time.sleep(LOOK_S)

    def console_size(self) -> int:
        """Return how much it has printed."""
        assert self.directory is not None
        return (self.directory / CONSOLE).stat().st_size

    def _begun(self, directory: Path, passed_on: int) -> None:
        """Take note of it, and pass on what the command that has started it did not."""
        claim = read_claim(directory / layout.CLAIM)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            if claim is not None and claim.supervisor:
                self._pid, self._pid_started = claim.supervisor, claim.supervisor_started
            elif claim is not None:
                self._pid, self._pid_started = claim.pid, claim.pid_started
            self.directory = directory
            for number in self.signals[passed_on:]:
                self._pass_on(number)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self.signals.append(number)
        self._pass_on(number)
        self.on_signal()

    def _pass_on(self, number: int) -> None:
        if self.directory is None:
            if self._child is not None:
                self._child.send_signal(number)
        elif self.lives():
            os.kill(self._pid, number)
