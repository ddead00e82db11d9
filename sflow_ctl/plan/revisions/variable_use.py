"""Which tasks of a plan use a variable that all tasks have: those that name it. Pure. Called by `comparing.py`.

As for artifacts (`plan/artifact_mentions.py`): a variable that no task names may be read by any of them.
"""

import re
from typing import Any

import msgspec

from sflow_ctl.plan.artifact_mentions import texts_of
from sflow_ctl.plan.model import Plan, PlannedTask


class SharedVariables:
    """The variables of the workflow in the environments of one plan's tasks."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._texts = {name: _text(value) for name, value in plan.variables.items()}
        self._is_named: dict[str, bool] = {}

    def is_shared(self, task: PlannedTask, name: str) -> bool:
        """Return whether a task has the workflow's value of a variable, or as all tasks none: it has no own one."""
        return task.env.get(name) == self._texts.get(name)

    def uses(self, task: PlannedTask, name: str) -> bool:
        """Return whether the work of a task may depend on a variable of the workflow."""
        if _names(task, name):
            return True
        if name not in self._is_named:
            self._is_named[name] = any(_names(other, name) for other in self._plan.tasks)
        return not self._is_named[name]


def _names(task: PlannedTask, name: str) -> bool:
    """Return whether a text of a task names a variable, or the value of another variable does as shells would."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    in_values = re.compile(rf"\$\{{?{re.escape(name)}(?!\w)")
    return any(map(word.search, texts_of(task))) or any(map(in_values.search, task.env.values()))


def _text(value: Any) -> str:
    """Return a value as tasks have it in their environment (`planner/phases/variables.py`)."""
    if isinstance(value, list | dict | tuple):
        return msgspec.json.encode(value).decode()
    return value if isinstance(value, str) else str(value)
