"""Scripts, variables, probes and files of tasks with their expressions evaluated.

Those that wait until the task starts are left as marks.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import (
    MARK,
    as_text,
    evaluate,
    evaluate_any,
    names_used,
    render_template,
    template_names,
)
from sflow_ctl.format.yaml_source import PathKey
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import DeferredExpression, PlannedFile
from sflow_ctl.plan.task_views import OWN, TaskPorts, TaskViews
from sflow_ctl.planner.deferred import (
    Known,
    OwnPorts,
    are_late,
    check_outputs,
    check_ports,
    early_names,
    is_late,
    needs_outputs,
    rendered_early,
)
from sflow_ctl.planner.findings import UnplannableError

Path = tuple[PathKey, ...]
Names = Mapping[str, Any]
Rendered = tuple[Any, list[DeferredExpression]]
"""A text or value, and which expressions in it are still to be evaluated."""
_IN_TEMPLATE = re.compile(r"\$\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_STAND_IN = 10_000
"""A port while nobody knows it: evaluating with it finds mistakes before anything starts."""


def own_ports(task: schema.Task) -> dict[str, Any]:
    """`port` and `ports` of a task that has some, among the names that its expressions see."""
    return {name: OwnPorts() for name in OWN} if task.ports else {}


class Scripts:
    """Of all tasks of a document. `replicas_of` is every task's concrete names."""

    def __init__(
        self,
        tasks: list[schema.Task],
        replicas_of: Mapping[str, tuple[str, ...]],
        flexible: Collection[str] = (),
        port_counts: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Before tasks are placed, `flexible` and `port_counts` are empty, and so is the `task` namespace.

        `flexible` are tasks as written whose nodes and GPUs are chosen when they start, `port_counts` are the numbers of
        ports of concrete tasks, by name.
        """
        self._tasks = {task.name: task for task in tasks}
        self._replicas_of = replicas_of
        self._ancestors: dict[str, frozenset[str]] = {}
        self._namespace: Any = None
        self._all_facts: dict[str, Any] = {}
        """Of that namespace."""
        self._flexible = flexible
        self._port_counts = port_counts or {}

    def script(self, task: schema.Task, replica: str, names: Names) -> Rendered:
        """The whole script of a replica. Raises: UnplannableError."""
        items, all_late = [], []
        for index, item in enumerate(task.script):
            if MARK not in item:
                items.append(item)
                continue
            try:
                if not is_late(item, names):
                    items.append(str(evaluate(item, names)))
                    continue
                text, late = rendered_early(item, names)
                all_late += self._checked(task, replica, late, ("script", index), names)
            except ExpressionError as error:
                raise self._problem(replica, item, ("script", index), error) from error
            items.append(text)
        return "\n".join(items), all_late

    def variable(self, task: schema.Task, replica: str, variable: schema.Variable, names: Names) -> Rendered:
        """The value of a variable of a task's own. Raises: UnplannableError, ExpressionError."""
        if not (isinstance(variable.value, str) and is_late(variable.value, names)):
            early = {name: value for name, value in names.items() if name != "task"}
            return cast(evaluate_any(variable.value, early), variable.type), []
        path = ("variables", variable.name)
        try:
            text, late = rendered_early(variable.value, names)
            return text, self._checked(task, replica, late, path, names)
        except ExpressionError as error:
            raise self._problem(replica, variable.value, path, error) from error

    def value(self, task: schema.Task, replica: str, field: Any, path: Path, names: Names) -> Rendered:
        """Any value, with texts of late expressions as texts with marks. Raises: UnplannableError, ExpressionError."""
        if isinstance(field, list):
            both = [
                self.value(task, replica, item, (*path, index), names) for index, item in enumerate(field)
            ]
            return [value for value, _ in both], [late for _, several in both for late in several]
        if not (isinstance(field, str) and is_late(field, names)):
            return evaluate_any(field, names), []
        try:
            text, late = rendered_early(field, names)
            return text, self._checked(task, replica, late, path, names)
        except ExpressionError as error:
            raise self._problem(replica, field, path, error) from error

    def file(
        self, task: schema.Task, replica: str, file: PlannedFile, names: Names, path: Path
    ) -> PlannedFile:
        """A file whose content is a template as one that is final, or rendered when the task starts.

        Raises: UnplannableError.
        """
        if MARK not in file.content:
            return file
        used = template_names(file.content)
        try:
            if not are_late(used, names):
                return msgspec.structs.replace(file, content=render_template(file.content, names))
            early = early_names(used, names)
            expressions = " ".join(_IN_TEMPLATE.findall(file.content))
            uses: list[str] = []
            if needs_outputs(expressions):
                check_outputs(task, expressions, self._known, path)
            else:
                render_template(file.content, {**early, **self._stand_ins(replica, uses, names)})
        except ExpressionError as error:
            raise self._problem(replica, file.content, path, error) from error
        check_ports(task, uses, self._known, path)
        return msgspec.structs.replace(file, names=early, uses_ports=tuple(uses))

    def with_stand_ins(
        self, replica: str, text: str, late: Sequence[DeferredExpression], names: Names
    ) -> str:
        """A text with marks as it may be at the start; expressions on outputs are left out."""
        for one in late:
            value = ""
            if not needs_outputs(one.mark):
                value = as_text(evaluate(one.mark, {**one.names, **self._stand_ins(replica, [], names)}))
            text = text.replace(one.mark, value)
        return text

    def views(self, namespace: Names) -> dict[str, Any]:
        """What late expressions need of the `task` namespace: replicated bases as names, not copies."""
        return self._facts(namespace)

    def _facts(self, namespace: Names) -> dict[str, Any]:
        return {
            name: list(self._replicas_of[name]) if isinstance(view, list) else view
            for name, view in namespace.items()
        }

    @cached_property
    def _known(self) -> Known:
        bases = {name: base for base, names in self._replicas_of.items() for name in names}
        bases |= {base: base for base in self._replicas_of}
        return Known(self._tasks, bases, self._all_before, self._flexible)

    def _checked(
        self, task: schema.Task, replica: str, late: list[DeferredExpression], path: Path, names: Names
    ) -> list[DeferredExpression]:
        """The expressions with whose ports they use. Raises: UnplannableError, ExpressionError."""
        checked = []
        for one in late:
            uses: list[str] = []
            if needs_outputs(one.mark):
                check_outputs(task, one.mark, self._known, path)
            elif names["task"]:  # else tasks are not placed yet, and this comes again
                evaluate(one.mark, {**one.names, **self._stand_ins(replica, uses, names)})
            check_ports(task, uses, self._known, path)
            checked.append(msgspec.structs.replace(one, uses_ports=tuple(uses)))
        return checked

    def _stand_ins(self, replica: str, uses: list[str], names: Names) -> dict[str, Any]:
        """`task`, `port` and `ports` with ports that are made up; who is asked for one is added to `uses`."""

        def note(name: str) -> None:
            if not self._replicas_of.get(name, (name,)):
                return  # a task without replicas has no ports to wait for
            if name != replica and name not in uses and self._known.base_of[name] not in uses:
                uses.append(name)

        def ports_of(name: str) -> TaskPorts:
            note(name)
            return TaskPorts("127.0.0.1", self._made_up(name))

        views = TaskViews(self._task_facts(names), {}, self._port_counts, ports_of, note)
        own = {name: views.ports(replica, name) for name in OWN if isinstance(names.get(name), OwnPorts)}
        return {"task": views, **own}

    def _task_facts(self, names: Names) -> dict[str, Any]:
        namespace = names["task"]
        if self._namespace is not namespace:
            self._namespace, self._all_facts = namespace, self._facts(namespace)
        return self._all_facts

    def _made_up(self, name: str) -> dict[str, list[int]]:
        counts = self._port_counts.get(name, {})
        return {port: [_STAND_IN + index for index in range(count)] for port, count in counts.items()}

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

    def _problem(self, replica: str, text: str, path: Path, error: ExpressionError) -> UnplannableError:
        code = "undefined-name" if error.is_undefined else "expression-failed"
        what, hint = f'task "{replica}": {error.text}', error.hint
        used = template_names(text) if path[0] == "files" else names_used(text)
        if "task" in used:
            what = f'Failed to resolve task expression: task "{replica}": {error.text}'
            hint = hint or self._hint(text)
        elif error.is_undefined and not used.isdisjoint(OWN):
            hint = "give the task ports: {NAME: 1}"
        problem = UnplannableError(code, what, hint, path)
        problem.others = tuple(self._problem(replica, text, path, one) for one in error.others)
        return problem

    def _hint(self, item: str) -> str:
        for base, names in self._replicas_of.items():
            if f"task.{base}." in item and names != (base,):
                return (
                    f'"{base}" is a replicated task: write task.{base}[0], or one of {", ".join(names[:5])}'
                )
        named = [base for base in sorted(self._flexible) if base in item]
        if named and (".nodes" in item or ".gpus" in item):
            return (
                f"there is not room for all tasks at once: {', '.join(named)} is placed when it is ready, so its nodes "
                "and GPUs are not known before; its own script has $SFLOW_TASK_ASSIGNED_NODE_NAMES"
            )
        known = ", ".join(list(self._replicas_of)[:10])
        return (
            f"task.NAME has nodes, gpus, backend and operator, and what its ports are; NAME is one of {known}"
        )
