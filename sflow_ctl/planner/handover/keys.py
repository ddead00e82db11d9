"""Plans the keys of tasks: names of a user's own, by which commands know a task beside its address."""

import re

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format.expressions.templates import as_text, evaluate_any
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.results import PlannedInput
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.tasks.scopes import TaskScope
from sflow_ctl.planner.tasks.scripts import INPUTS

MAX_KEY = 200
_KEY = lazy_pattern(r"[A-Za-z0-9][A-Za-z0-9._/=,-]*", re.ASCII)


def plan_key(scope: TaskScope, inputs: tuple[PlannedInput, ...]) -> str:
    """Return the key of a concrete task. Raises: UnplannableError, ExpressionError."""
    task = scope.task
    known = {one.name: one.value for one in inputs if not (one.is_deferred or one.sources or one.path)}
    names = {name: one for name, one in scope.names.items() if name != "task"}
    try:
        key = as_text(evaluate_any(task.key, {**names, INPUTS: known}))
    except ExpressionError as error:
        what = f'the key of task "{scope.replica.name}": {error.text}'
        hint = (
            error.hint
            or "a key is known when planned: it may use variables, replica, sweep, and inputs that have a value"
        )
        raise UnplannableError("wrong-key", what, hint, ("key",)) from error
    if not _KEY.fullmatch(key) or len(key) > MAX_KEY:
        what = f'task "{scope.replica.name}" has the key "{key[:MAX_KEY]}", which cannot be one'
        hint = f"letters, digits and . _ - / = , ; it begins with a letter or a digit, and has at most {MAX_KEY} characters"
        raise UnplannableError("wrong-key", what, hint, ("key",))
    return key


def check_keys(tasks: list[PlannedTask], findings: Findings) -> None:
    """Note keys that several tasks have, or that are names of other tasks. Raises nothing."""
    owners: dict[str, str] = {}
    names = {name for task in tasks for name in (task.name, task.base)}
    for task in tasks:
        if not task.key:
            continue
        where = findings.loaded.where("tasks", task.base, "key")
        other = owners.setdefault(task.key, task.name)
        if other != task.name:
            what = f'tasks "{other}" and "{task.name}" have the same key "{task.key}"'
            findings.add(
                "duplicate-key", what, where, "put into the key what they differ in, as ${{ replica.index }}"
            )
            return
        if task.key in names and task.key not in (task.name, task.base):
            what = f'the key "{task.key}" of task "{task.name}" is the name of another task'
            findings.add("wrong-key", what, where, "choose another key")
            return
