"""Writes `<task>/result.json` and `<run>/results.json`, before tasks that depend on the task start.

Both are replaced as a whole. Called by the output collector, in its thread.
"""

import errno
from collections.abc import Callable, Iterable
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
from sflow_ctl.runtime.record.durable import read_regular, write_durably

MAX_FILE_BYTES = 64 << 20
OF_TASK, OF_RUN = "result.json", "results.json"


class ResultFiles:
    """The results of one run. Those of tasks that an earlier controller has completed are kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tasks: dict[str, Any] | None = None
        """The entries of `results.json`; None before the first task with a result."""

    def make(
        self, task: PlannedTask, planned: PlannedResult, read_log: Callable[[], Iterable[str]]
    ) -> TaskResult:
        """Make and write the result of a completed task; what is missing is among its errors."""
        result = self._read(task, planned, read_log)
        if self._tasks is None:
            self._tasks = _earlier(self._directory / OF_RUN)
        self._tasks[task.name] = results_entry(task.name, result)
        documents = (
            (self._directory / task.name / OF_TASK, result.document(task.name)),
            (self._directory / OF_RUN, results_document(self._directory.name, self._tasks)),
        )
        for path, document in documents:
            try:
                write_durably(path, SECRETS.mask.raw(encoded(document)))
            except OSError as error:  # the values are known all the same
                result.errors.append(f"{path.name} cannot be written: {error.strerror}")
        return result

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


def _earlier(path: Path) -> dict[str, Any]:
    """Return the entries of an earlier controller; none if there are none, or a task has written something else."""
    try:
        tasks = msgspec.json.decode(read_regular(path), type=dict[str, Any]).get("tasks")
    except (OSError, msgspec.MsgspecError, RecursionError):
        return {}
    return tasks if isinstance(tasks, dict) else {}
