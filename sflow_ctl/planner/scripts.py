"""Scripts and task variables with their expressions evaluated, those that wait for outputs of other tasks left as marks."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.late import check_sources, is_late, rendered_early
from sflow_ctl.planner.plan import LateExpression
from sflow_ctl.spec import schema
from sflow_ctl.spec.casting import cast
from sflow_ctl.spec.expressions import MARK, ExpressionError, evaluate, evaluate_any, names_used
from sflow_ctl.spec.yaml_source import PathKey

Rendered = tuple[Any, list[LateExpression]]
"""A text or value, and which expressions in it are still to be evaluated."""


class Scripts:
    """Of all tasks of a document. `replicas_of` is every task's concrete names."""

    def __init__(self, tasks: list[schema.Task], replicas_of: Mapping[str, tuple[str, ...]]) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._replicas_of = replicas_of
        self._ancestors: dict[str, frozenset[str]] = {}
        self._has_late = False
        self.flexible: set[str] = set()
        """Tasks whose nodes and GPUs nobody knows before they start."""

    def script(self, task: schema.Task, replica: str, names: Mapping[str, Any]) -> Rendered:
        """The whole script of a replica. Raises: UnplannableError."""
        items, all_late = [], []
        for index, item in enumerate(task.script):
            if MARK not in item:
                items.append(item)
                continue
            try:
                if not is_late(item):
                    items.append(str(evaluate(item, names)))
                    continue
                text, late = rendered_early(item, names)
            except ExpressionError as error:
                raise self._problem(replica, item, index, error) from error
            self._check(task, late, ("script", index))
            items.append(text)
            all_late += late
        return "\n".join(items), all_late

    def variable(self, task: schema.Task, variable: schema.Variable, names: Mapping[str, Any]) -> Rendered:
        """The value of a variable of a task's own. Raises: UnplannableError, ExpressionError."""
        if not (isinstance(variable.value, str) and is_late(variable.value)):
            return cast(evaluate_any(variable.value, names), variable.type), []
        text, late = rendered_early(variable.value, names)
        self._check(task, late, ("variables", variable.name))
        return text, late

    def views(self, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """What late expressions need of the `task` namespace: replicated bases as names, not copies."""
        if not self._has_late:
            return {}
        return {
            name: list(self._replicas_of[name]) if isinstance(view, list) else view
            for name, view in namespace.items()
        }

    @cached_property
    def _base_of(self) -> dict[str, str]:
        bases = {name: base for base, names in self._replicas_of.items() for name in names}
        return bases | {base: base for base in self._replicas_of}

    def _check(self, task: schema.Task, late: list[LateExpression], path: tuple[PathKey, ...]) -> None:
        check_sources(task, late, self._tasks, self._base_of, self._all_before, path)
        self._has_late = self._has_late or bool(late)

    def _all_before(self, base: str) -> frozenset[str]:
        """All that have completed, or are ready, before a task starts."""
        if base not in self._ancestors:
            found: set[str] = set()
            seen = {base}
            stack = [base]
            while stack:
                for dependency in self._tasks[stack.pop()].dependencies:
                    if dependency.until in ("available", "completed"):
                        found.add(dependency.task)
                    if dependency.task not in seen:
                        seen.add(dependency.task)
                        stack.append(dependency.task)
            if self._tasks[base].finally_:  # after all others, whatever became of them
                found.update(name for name, task in self._tasks.items() if not task.finally_)
            self._ancestors[base] = frozenset(found)
        return self._ancestors[base]

    # ------------------------------------------------------------------ what went wrong

    def _problem(self, replica: str, item: str, index: int, error: ExpressionError) -> UnplannableError:
        code = "undefined-name" if error.is_undefined else "expression-failed"
        what, hint = f'task "{replica}": {error.text}', error.hint
        if "task" in names_used(item):
            what = f'Failed to resolve task expression: task "{replica}": {error.text}'
            hint = hint or self._hint(item)
        return UnplannableError(code, what, hint, ("script", index))

    def _hint(self, item: str) -> str:
        for base, names in self._replicas_of.items():
            if f"task.{base}." in item and names != (base,):
                return (
                    f'"{base}" is a replicated task: write task.{base}[0], or one of {", ".join(names[:5])}'
                )
        named = [base for base in sorted(self.flexible) if base in item]
        if named and (".nodes" in item or ".gpus" in item):
            return (
                f"there is not room for all tasks at once: {', '.join(named)} is placed when it is ready, so its nodes "
                "and GPUs are not known before; its own script has $SFLOW_TASK_ASSIGNED_NODE_NAMES"
            )
        known = ", ".join(list(self._replicas_of)[:10])
        return f"task.NAME has nodes, gpus, backend and operator; NAME is one of {known}"
