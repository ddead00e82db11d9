"""Runs a program that fetches one artifact in a process of its own, and follows its progress.

Libraries that fetch have threads that cannot be stopped, print, and take long to import; a process can be killed. It reads
its request from its command line, ends when its standard input does, and prints a line of JSON for each step.
"""

import os
import subprocess
import sys
import threading

import msgspec

from protocol.machine.loop_signals import QuietThread, signals_for_children
from sflow_ctl.runtime.artifacts.transfer import Cut, FetchError, Progress
from sflow_ctl.runtime.children import memory_file

_QUOTED_BYTES = 500


class ChildReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress; the last line has either `place`, where it is, or `cause`, the reason of the failure."""

    received_bytes: int = 0
    total_bytes: int = 0
    place: str | None = None
    unchecked: str = ""
    """Why it could not be found out whether it is whole; empty when it is."""
    cause: str | None = None
    hint: str = ""


class ChildProcess:
    """One such program."""

    def __init__(self, module: str, subject: str, hint: str, progress: Progress) -> None:
        """`hint` is what to do when the program dies."""
        self._command = (sys.executable, "-I", "-m", module)
        self._subject, self._hint, self._progress = subject, hint, progress
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it now; `run` then returns soon. Callable from another thread."""
        if self._process is not None:
            self._process.kill()

    def run(self, request: msgspec.Struct, stop: threading.Event) -> ChildReport:
        """Return its last line, which has a `place`. Raises: FetchError, Cut, OSError."""
        command = [*self._command, msgspec.json.encode(request).decode()]
        last = ChildReport()
        # In its own session, so that a terminal's Ctrl-C reaches only us; the end of its stdin ends it.
        with os.fdopen(memory_file("fetch-stderr"), "w+b") as stderr:
            with signals_for_children():
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
            with process:
                self._process = process
                if stop.is_set():
                    self.kill()
                assert process.stdout is not None
                for line in process.stdout:
                    last = msgspec.json.decode(line, type=ChildReport)
                    self._note(last)
                process.wait()
                if stop.is_set():
                    raise Cut
                if last.place is not None:
                    return last
                if last.cause is not None:
                    raise FetchError(last.cause, last.hint)
                end = os.fstat(stderr.fileno()).st_size
                said = os.pread(stderr.fileno(), _QUOTED_BYTES, max(0, end - _QUOTED_BYTES))
        cause = f"{self._subject} ended with {process.returncode}: {said.decode(errors='replace').strip()}"
        raise FetchError(cause, self._hint)

    def _note(self, report: ChildReport) -> None:
        self._progress.received_bytes = max(self._progress.received_bytes, report.received_bytes)
        if report.total_bytes:
            self._progress.total_bytes = report.total_bytes


_saying = threading.Lock()


def say(report: ChildReport) -> None:
    """Print a report, in such a program."""
    with _saying:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


def end_with_parent() -> None:
    """Let a thread end this program when the process that started it has ended."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    QuietThread(wait, "parent").start()
