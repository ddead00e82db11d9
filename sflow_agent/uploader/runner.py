"""Runs the uploader, a program of its own, for each order to upload. A source of the loop; decides nothing.

Imported at the first such order. That each upload is done once is decided in `core.uploads`.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from typing import assert_never

import msgspec

from protocol.ids import AttemptId
from protocol.messages.orders import UploadFiles
from protocol.messages.uploads import (
    UPLOADER,
    UPLOADER_GRACE_S,
    UploadEnd,
    UploadJob,
    UploadOutcome,
    UploadProgress,
    failed,
    last_error,
    line_said,
)
from protocol.text.signal_names import signal_name
from sflow_agent.core.events import AgentEvent, UploadEnded, UploadProgressed
from sflow_agent.descriptors import Descriptors
from sflow_agent.processes.syscalls import memory_file
from sflow_agent.processes.table import Processes

MOST_AT_ONCE = 4
"""Each takes 60 MB with boto3, and the network is the same for all."""
KILLED_WITHIN_S = 5.0
"""A process that waits for a file system without an answer ends only with that: the result no longer waits for it."""
LINE_BYTES = 4 << 20


class _Running:
    """The program of one order."""

    def __init__(self, order: UploadFiles, pid: int, output: int, errors: int) -> None:
        self.order, self.pid, self.output, self.errors = order, pid, output, errors
        self.text = bytearray()
        self.outcome: UploadOutcome | None = None
        self.kill_at: float | None = None
        self.give_up_at: float | None = None
        self.was_ended = False


class UploadRunner:
    """`begin` and `end` uploads; `poll` returns how far they are, and their ends."""

    def __init__(
        self, processes: Processes, descriptors: Descriptors, own_directory: str | None = None
    ) -> None:
        """`own_directory` has the directories of tasks on this node, if that is not the run directory."""
        self._processes, self._descriptors, self._own_directory = processes, descriptors, own_directory
        self._queue: deque[UploadFiles] = deque()
        self._running: dict[AttemptId, _Running] = {}
        self._events: list[AgentEvent] = []

    def begin(self, order: UploadFiles) -> None:
        """Start to upload, or queue it."""
        self._queue.append(order)
        self._start_next()

    def end(self, attempt: AttemptId, *, is_forced: bool) -> None:
        """End an upload, with SIGKILL at once if it is forced. Repeating it can only make it faster."""
        for order in [order for order in self._queue if order.attempt == attempt]:
            self._queue.remove(order)
            self._finish(order, failed(order.files, "it was ended before it had begun"))
        running = self._running.get(attempt)
        if running is None:
            return
        now = time.monotonic()
        running.was_ended = True
        if is_forced:
            running.kill_at = now
        elif running.kill_at is None:
            running.kill_at = now + UPLOADER_GRACE_S
            _signal(running.pid, signal.SIGTERM)

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._events:
            return 0.0
        times = [one.give_up_at or one.kill_at for one in self._running.values()]
        return min((at for at in times if at is not None), default=None)

    def poll(self, now: float, /) -> list[AgentEvent]:
        """Kill what does not end; return what has happened since the last call."""
        for one in list(self._running.values()):
            if one.give_up_at is not None and one.give_up_at <= now:
                self._close(one, f"the uploader, process {one.pid}, could not be ended")
            elif one.give_up_at is None and one.kill_at is not None and one.kill_at <= now:
                _signal(one.pid, signal.SIGKILL)
                one.give_up_at = now + KILLED_WITHIN_S
        events, self._events = self._events, []
        return events

    # ------------------------------------------------------------------ one program

    def _start_next(self) -> None:
        while self._queue and len(self._running) < MOST_AT_ONCE:
            order = self._queue.popleft()
            try:
                self._start(order)
            except OSError as error:
                self._finish(order, failed(order.files, f"the uploader cannot be started: {error.strerror}"))

    def _start(self, order: UploadFiles) -> None:
        """Raises: OSError."""
        directories = [order.directory]
        if self._own_directory is not None:
            directories.append(f"{self._own_directory}/{order.attempt.task}")
        job = UploadJob(directories=tuple(directories), files=order.files, targets=order.targets)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        request, errors = memory_file("upload"), memory_file("errors")
        try:
            os.write(request, msgspec.json.encode(job))
            pid = self._processes.start_helper(
                (sys.executable, *UPLOADER),
                request,
                write_end,
                errors,
                lambda status, number: self._has_ended(order.attempt, status, number),
            )
        except OSError:
            os.close(read_end)
            os.close(errors)
            raise
        finally:
            os.close(write_end)
            os.close(request)
        running = self._running[order.attempt] = _Running(order, pid, read_end, errors)
        self._descriptors.add(read_end, select.EPOLLIN, lambda: self._read(running))

    def _read(self, running: _Running) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(running.output, 65536):
                running.text += data
                self._take_lines(running)
            self._descriptors.remove(running.output)  # the end

    def _take_lines(self, running: _Running) -> None:
        *lines, rest = running.text.split(b"\n")
        running.text = rest[-LINE_BYTES:]
        for line in lines:
            match said := line_said(line):
                case UploadProgress(text=text):
                    self._events.append(UploadProgressed(running.order.attempt, text))
                case UploadEnd(outcome=outcome):
                    running.outcome = outcome
                case None:
                    pass
                case _:
                    assert_never(said)

    def _has_ended(self, attempt: AttemptId, exit_status: int | None, number: int | None) -> None:
        running = self._running.get(attempt)
        if running is None:
            return  # given up
        self._read(running)
        how = f"was killed by {signal_name(number)}" if number is not None else f"exited with {exit_status}"
        self._close(running, f"the uploader {how}{_last_line(running)}")

    def _close(self, running: _Running, how: str) -> None:
        self._descriptors.remove(running.output)
        os.close(running.output)
        os.close(running.errors)
        del self._running[running.order.attempt]
        _signal(running.pid, signal.SIGKILL)  # what it may have left in its group
        if running.outcome is None and running.was_ended:
            running.outcome = failed(running.order.files, "it was ended before it was done")
        self._finish(running.order, running.outcome or failed(running.order.files, how))
        self._start_next()

    def _finish(self, order: UploadFiles, outcome: UploadOutcome) -> None:
        self._events.append(UploadEnded(order.attempt, outcome))


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _last_line(running: _Running) -> str:
    """Return the last line that the program printed as an error, as the end of a sentence."""
    size = os.fstat(running.errors).st_size
    return last_error(os.pread(running.errors, 4096, max(0, size - 4096)))
