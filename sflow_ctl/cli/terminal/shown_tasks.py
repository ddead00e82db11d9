"""Which tasks' output a console shows: all of it, the lines about errors, or none. Pure.

What each task gets is decided by its `console:` and by `--only`; `planning.py` has put that into the plan. Called by
`console.py` and `line_prefix.py`.
"""

import re

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.plan.copies.task_list import kinds_of, names_where
from sflow_ctl.plan.model import Plan

_ERROR = lazy_pattern(
    rb"error|exception|traceback|fatal|critical|panic|abort|assertion|segmentation fault|core dumped"
    rb"|killed|out of memory|fail(?:ed|ure)",
    re.IGNORECASE,
)
"""Words that a line about an error has, also within others: `ValueError`, `FAILED`."""


class ShownTasks:
    """The tasks of a plan by what is shown of them. Labels of processes are `TASK` or `TASK.RANK`."""

    def __init__(self, plan: Plan) -> None:
        self._muted: frozenset[str] = frozenset()
        self._errors: frozenset[str] = frozenset()
        if any(task.console != "all" for task in kinds_of(plan.tasks)):
            self._muted = frozenset(names_where(plan.tasks, lambda task: task.console == "none"))
            self._errors = frozenset(names_where(plan.tasks, lambda task: task.console == "errors"))

    def shows(self, task: str) -> bool:
        """Return whether anything of a task's output is shown."""
        return task not in self._muted

    def has_errors_only(self, label: str) -> bool:
        """Return whether of a process only the lines about errors are shown."""
        return bool(self._errors) and (label in self._errors or label.rpartition(".")[0] in self._errors)


class ErrorLines:
    """The filter of one stream: lines with a word for an error, and the indented lines below them."""

    def __init__(self) -> None:
        self._is_inside = False

    def of(self, lines: bytes) -> bytes:
        """Return the lines that are shown. `lines` ends with a newline."""
        if not self._is_inside and _ERROR.search(lines) is None:
            return b""  # nearly always
        kept = []
        for line in lines.splitlines(keepends=True):
            is_detail = self._is_inside and line[:1] in (b" ", b"\t")
            self._is_inside = is_detail or _ERROR.search(line) is not None
            if self._is_inside:
                kept.append(line)
        return b"".join(kept)
