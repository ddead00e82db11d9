"""Writes `<task>/result.json` when a task has completed, and `<run>/results.json` before tasks that depend on one start.

Both are replaced as a whole. `results.json` grows with the tasks, so it is not written for each of them: the output collector,
which calls this in its thread, writes it now and then, and the controller before it starts a task that may read it.
"""

import errno
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import PlannedResult
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.results.task_result import (
    TaskResult,
    encoded,
    result_of_file,
    result_of_lines,
    results_document,
    results_entry,
)
from sflow_ctl.runtime.record.durable import read_regular, write_durably, write_for_now

MAX_FILE_BYTES = 64 << 20
OF_TASK, OF_RUN = "result.json", "results.json"
WRITE_EVERY_S = 0.5
REST_FACTOR = 20
"""The pause after a write, in times of what it took: at most a twentieth of the time goes into writing."""


class ResultFiles:
    """The results of one run, those of tasks that an earlier controller has completed included."""

    def __init__(self, directory: Path, kept: Sequence[str] = ()) -> None:
        """`kept` are tasks that completed under an earlier controller: their `result.json` is there."""
        self._directory = directory
        self._lock = threading.Lock()
        self._tasks = {name: entry for name in kept if (entry := _earlier(directory, name)) is not None}
        """The entries of `results.json`."""
        self._is_unwritten = bool(kept)
        self._written_at, self._took_s = -math.inf, 0.0

    def make(
        self, task: PlannedTask, planned: PlannedResult, read_log: Callable[[], Iterable[str]]
    ) -> TaskResult:
        """Make and write the result of a completed task; what is missing is among its errors."""
        result = self._read(task, planned, read_log)
        path = self._directory / task.name / OF_TASK
        try:
            write_durably(path, SECRETS.mask.raw(encoded(result.document(task.name))))
        except OSError as error:  # the values are known all the same
            result.errors.append(f"{path.name} cannot be written: {error.strerror}")
        with self._lock:
            self._tasks[task.name] = results_entry(task.name, result.is_ok, result.values)
            self._is_unwritten = True
        return result

    def next_write(self) -> float | None:
        """Return when `write` is due, in monotonic seconds; None while nothing is to be written."""
        if not self._is_unwritten:
            return None
        return self._written_at + max(WRITE_EVERY_S, self._took_s * REST_FACTOR)

    def write(self) -> str:
        """Write `results.json` if a result is not in it; return why that failed, or nothing."""
        with self._lock:
            if not self._is_unwritten:
                return ""
            began = time.monotonic()
            document = results_document(self._directory.name, self._tasks)
            self._is_unwritten = False
            try:
                write_for_now(self._directory / OF_RUN, SECRETS.mask.raw(encoded(document)))
            except OSError as error:
                return f"{OF_RUN} cannot be written: {error.strerror}"
            finally:
                self._written_at = time.monotonic()
                self._took_s = self._written_at - began
            return ""

    def _read(
        self, task: PlannedTask, planned: PlannedResult, read_log: Callable[[], Iterable[str]]
    ) -> TaskResult:
        if planned.file is None:
            log = log_path(task.name).rpartition("/")[2]
            try:
                return result_of_lines(planned, read_log(), log)
            except OSError as error:
                failed = TaskResult({"type": "log", "path": log})
                failed.errors.append(f"the log cannot be read: {error.strerror or error}")
                return failed
        path = self._directory / task.name / planned.file
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES >> 20} MiB")
            return result_of_file(planned.file, read_regular(path))
        except OSError as error:
            return result_of_file(planned.file, error)


def _earlier(directory: Path, task: str) -> dict[str, Any] | None:
    """Return the entry of a task whose `result.json` an earlier controller has written; None if it cannot be read."""
    try:
        document = msgspec.json.decode(read_regular(directory / task / OF_TASK), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None
    values = document.get("values")
    return results_entry(task, document.get("ok") is not False, values if isinstance(values, dict) else {})
