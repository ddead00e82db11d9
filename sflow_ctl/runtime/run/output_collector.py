"""Reads what completed tasks have written, in a thread of its own: `<task>/outputs.json`, and values for later tasks.

A log may be large and a pattern slow; the scheduler's thread waits for neither. The exit of a task is held
back meanwhile, so nobody starts on values that are not there yet.
"""

import contextlib
import os
import queue
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sflow_ctl.core.events import MessageReceived
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import STDOUT, PlannedTask


class Collected(NamedTuple):
    """The exit that was held back, and what the task's outputs say."""

    event: MessageReceived
    values: dict[str, Any]
    problems: list[str]


class OutputCollector:
    """`collect` a task's outputs; once `fileno` is readable they are among `collected`."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self.fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.values: dict[str, dict[str, Any]] = {}
        """All that has been collected, by task."""
        self._wanted: queue.SimpleQueue[tuple[PlannedTask, MessageReceived] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Collected] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def collect(self, task: PlannedTask, event: MessageReceived) -> None:
        """Begins to read the outputs of a task that has exited well."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="outputs", daemon=True)
            self._thread.start()
        self._wanted.put((task, event))

    def collected(self) -> Iterator[Collected]:
        """What has been read since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._done.get_nowait()

    def close(self) -> None:
        """Ends the thread; what it was still reading is not waited for."""
        self._wanted.put(None)
        os.close(self.fileno)

    def _work(self) -> None:
        while (wanted := self._take()) is not None:
            for task, events in wanted:
                try:
                    values, problems = self._read(task)
                except Exception as error:  # noqa: BLE001 - a value that cannot be read never holds a task up
                    values, problems = {}, [f"could not be read: {type(error).__name__}: {error}"]
                self.values[task.name] = values
                for event in events:
                    self._done.put(Collected(event, values, problems if event is events[-1] else []))
                with contextlib.suppress(OSError):  # closed: the run has ended
                    os.eventfd_write(self.fileno, 1)

    def _take(self) -> list[tuple[PlannedTask, list[MessageReceived]]] | None:
        """Wait for work and return all that is queued, by task: the exits of a task's ranks need one reading, not one each."""
        waiting = [self._wanted.get()]
        with contextlib.suppress(queue.Empty):
            while waiting[-1] is not None:
                waiting.append(self._wanted.get_nowait())
        if waiting[-1] is None:
            return None
        by_task: dict[str, tuple[PlannedTask, list[MessageReceived]]] = {}
        for one in waiting:
            assert one is not None
            by_task.setdefault(one[0].name, (one[0], []))[1].append(one[1])
        return list(by_task.values())

    def _read(self, task: PlannedTask) -> tuple[dict[str, Any], list[str]]:
        from sflow_ctl.results.outputs import collect  # the parse library, only for tasks that need it

        log = self._run_directory / log_path(task.name)
        found = collect(
            task.outputs, lambda source: _lines(log if source == STDOUT else log.parent / source, source)
        )
        specs = [
            {
                key: value
                for key, value in msgspec.to_builtins(output).items()
                if value is not None and key != "metrics"
            }
            for output in task.outputs
        ]
        document: dict[str, Any] = {"outputs": found.values, "specs": specs, "task": task.name}
        if found.metrics:
            document["metrics"] = found.metrics
        text = msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2)
        try:
            (log.parent / "outputs.json").write_bytes(text + b"\n")
        except OSError as error:  # the values are known all the same
            found.problems.append(f"outputs.json cannot be written: {error}")
        return found.visible, found.problems


def _lines(path: Path, source: str) -> Iterator[str]:
    """Yield the lines of a regular file; a FIFO or device would block, or never end. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{source} is not a regular file")
    with open(descriptor, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a descriptor has no path
        yield from file
