"""Evaluates the expressions in scripts, variables, probes and files of tasks.

Those that must wait until the task starts become placeholders.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import (
    EXPRESSION_START,
    as_text,
    evaluate,
    evaluate_any,
    is_template,
    names_used,
    render_template,
    template_names,
)
from sflow_ctl.format.yaml_source import PathKey
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.results import PlannedFile
from sflow_ctl.plan.task_views import OWN, TaskPorts, TaskViews
from sflow_ctl.planner.deferred import (
    ItemValues,
    Known,
    OwnValues,
    are_deferred,
    check_ports,
    check_values,
    is_deferred,
    items_among,
    known_names,
    render_known,
    waits_for_items,
    waits_for_values,
)
from sflow_ctl.planner.findings import UnplannableError

Path = tuple[PathKey, ...]
Names = Mapping[str, Any]
Rendered = tuple[Any, list[DeferredExpression]]
"""A text or value, and the expressions in it that are still to be evaluated."""
_IN_TEMPLATE = lazy_pattern(r"\$\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
CHECKPOINT = "checkpoint"
INPUTS = "inputs"
BLOCK, BLOCK_MARK = "block", "~"
"""What the tasks of a block see of it, and what is in their names."""
_STAND_IN = 10_000
"""The port used to evaluate a deferred expression when planning: that finds mistakes before anything starts."""


def own_values(task: schema.Task) -> dict[str, Any]:
    """Return what a task knows of itself when it starts, among the names of its expressions: ports, checkpoint, inputs."""
    names = OWN if task.leased_ports else ()
    of_checkpoint = () if task.checkpoint is None else (CHECKPOINT,)
    own: dict[str, Any] = {
        name: OwnValues() for name in (*names, *of_checkpoint, *((INPUTS,) if task.inputs else ()))
    }
    return own | {BLOCK: ItemValues()} if BLOCK_MARK in task.name else own


class Scripts:
    """Evaluates texts of all tasks of a document. `replicas_of` has every task's concrete names."""

    def __init__(
        self,
        tasks: list[schema.Task],
        replicas_of: Mapping[str, Sequence[str]],
        flexible: Collection[str] = (),
        port_counts: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Before tasks are placed, `flexible` and `port_counts` are empty, and so is the `task` namespace.

        `flexible` are tasks as written whose nodes and GPUs are chosen when they start, `port_counts` are the
        numbers of ports of concrete tasks, by name.
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
        """Return the whole script of a replica. Raises: UnplannableError."""
        items, all_deferred = [], []
        for index, item in enumerate(task.script):
            if EXPRESSION_START not in item:
                items.append(item)
                continue
            try:
                if not is_deferred(item, names):
                    items.append(str(evaluate(item, names)))
                    continue
                text, deferred = render_known(item, names)
                all_deferred += self._checked(task, replica, deferred, ("script", index), names)
            except ExpressionError as error:
                raise self._problem(replica, item, ("script", index), error) from error
            items.append(text)
        return "\n".join(items), all_deferred

    def variable(self, task: schema.Task, replica: str, variable: schema.Variable, names: Names) -> Rendered:
        """Return the value of a task's own variable. Raises: UnplannableError, ExpressionError."""
        if not (isinstance(variable.value, str) and is_deferred(variable.value, names)):
            early = {name: value for name, value in names.items() if name != "task"}
            return cast(evaluate_any(variable.value, early), variable.type), []
        path = ("variables", variable.name)
        try:
            text, deferred = render_known(variable.value, names)
            return text, self._checked(task, replica, deferred, path, names)
        except ExpressionError as error:
            raise self._problem(replica, variable.value, path, error) from error

    def value(self, task: schema.Task, replica: str, field: Any, path: Path, names: Names) -> Rendered:
        """Return any value, with placeholders for deferred expressions.

        Raises: UnplannableError, ExpressionError.
        """
        if isinstance(field, list):
            both = [
                self.value(task, replica, item, (*path, index), names) for index, item in enumerate(field)
            ]
            return [value for value, _ in both], [deferred for _, several in both for deferred in several]
        if not (isinstance(field, str) and is_deferred(field, names)):
            return evaluate_any(field, names), []
        try:
            text, deferred = render_known(field, names)
            return text, self._checked(task, replica, deferred, path, names)
        except ExpressionError as error:
            raise self._problem(replica, field, path, error) from error

    def file(
        self, task: schema.Task, replica: str, file: PlannedFile, names: Names, path: Path
    ) -> PlannedFile:
        """Return a file whose content is a template: final, or to be rendered when the task starts.

        Raises: UnplannableError.
        """
        if not is_template(file.content):
            return file
        used = template_names(file.content)
        try:
            if not are_deferred(used, names):
                return msgspec.structs.replace(file, content=render_template(file.content, names))
            early = known_names(used, names)
            expressions = " ".join(_IN_TEMPLATE.findall(file.content))
            uses: list[str] = []
            if waits_for_values(expressions):
                check_values(task, expressions, self._known, path)
            elif not waits_for_items(used, names):
                render_template(file.content, {**early, **self._stand_ins(replica, uses, names)})
        except ExpressionError as error:
            raise self._problem(replica, file.content, path, error) from error
        check_ports(task, uses, self._known, path)
        return msgspec.structs.replace(file, names=early, uses_ports=tuple(uses))

    def with_stand_ins(
        self, replica: str, text: str, deferred: Sequence[DeferredExpression], names: Names
    ) -> str:
        """Return a text with possible values for its placeholders; expressions on outputs are left out."""
        for one in deferred:
            value = ""
            is_open = waits_for_items(names_used(one.placeholder), names)
            if not is_open and not waits_for_values(one.placeholder):
                value = as_text(
                    evaluate(one.placeholder, {**one.names, **self._stand_ins(replica, [], names)})
                )
            text = text.replace(one.placeholder, value)
        return text

    def views(self, namespace: Names) -> dict[str, Any]:
        """Return the part of the `task` namespace that deferred expressions need: replicated bases as names, not copies."""
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
        return Known(self._tasks, bases, self._all_before, self._replicas_of, self._flexible)

    def _checked(
        self, task: schema.Task, replica: str, deferred: list[DeferredExpression], path: Path, names: Names
    ) -> list[DeferredExpression]:
        """Return the expressions with the tasks whose ports they use.

        Raises: UnplannableError, ExpressionError.
        """
        checked = []
        for one in deferred:
            uses: list[str] = []
            if waits_for_values(one.placeholder):
                check_values(task, one.placeholder, self._known, path)
            elif waits_for_items(names_used(one.placeholder), names):
                pass
            elif names["task"]:  # otherwise tasks are not placed yet, and the script is evaluated again
                evaluate(one.placeholder, {**one.names, **self._stand_ins(replica, uses, names)})
            check_ports(task, uses, self._known, path)
            checked.append(msgspec.structs.replace(one, uses_ports=tuple(uses)))
        return checked

    def _stand_ins(self, replica: str, uses: list[str], names: Names) -> dict[str, Any]:
        """Return `task`, `port` and `ports` with invented ports; tasks whose ports are read are added to `uses`."""

        def note(name: str) -> None:
            if not self._replicas_of.get(name, (name,)):
                return  # a task without replicas has no ports to wait for
            if name != replica and name not in uses and self._known.base_of[name] not in uses:
                uses.append(name)

        def ports_of(name: str) -> TaskPorts:
            note(name)
            return TaskPorts("127.0.0.1", self._made_up(name))

        views = TaskViews(self._task_facts(names), {}, self._port_counts, ports_of, note)
        own: dict[str, Any] = {
            name: views.ports(replica, name) for name in OWN if isinstance(names.get(name), OwnValues)
        }
        if isinstance(names.get(CHECKPOINT), OwnValues):
            own[CHECKPOINT] = {
                "path": "/checkpoint",
                "step": 1,
                "args": "--checkpoint /checkpoint",
                "dir": "/",
            }
        return {"task": views, **own, **items_among(names)}

    def _task_facts(self, names: Names) -> dict[str, Any]:
        namespace = names["task"]
        if self._namespace is not namespace:
            self._namespace, self._all_facts = namespace, self._facts(namespace)
        return self._all_facts

    def _made_up(self, name: str) -> dict[str, list[int]]:
        counts = self._port_counts.get(name, {})
        return {port: [_STAND_IN + index for index in range(count)] for port, count in counts.items()}

    def _all_before(self, base: str) -> frozenset[str]:
        """Return all tasks that have completed, or are ready, before a task starts."""
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
            if self._tasks[
                base
            ].finally_:  # tasks at the end of the run come after all others, however those ended
                found.update(name for name, task in self._tasks.items() if not task.finally_)
            self._ancestors[base] = frozenset(found)
        return self._ancestors[base]

    # ------------------------------------------------------------------ what went wrong

    def _problem(self, replica: str, text: str, path: Path, error: ExpressionError) -> UnplannableError:
        code = "undefined-name" if error.is_undefined else "expression-failed"
        what, hint = f'task "{replica}": {error.text}', error.hint
        used = template_names(text) if path[0] == "files" else names_used(text)
        if "task" in used:
            hint = hint or self._hint(text)
        elif error.is_undefined and not used.isdisjoint(OWN):
            hint = "give the task ports: {NAME: 1}"
        elif error.is_undefined and CHECKPOINT in used:
            hint = "give the task checkpoint: {}"
        problem = UnplannableError(code, what, hint, path)
        problem.others = tuple(self._problem(replica, text, path, one) for one in error.others)
        return problem

    def _hint(self, item: str) -> str:
        for base, names in self._replicas_of.items():
            if f"task.{base}." in item and list(names) != [base]:
                return (
                    f'"{base}" is a replicated task: write task.{base}[0], or one of {", ".join(names[:5])}'
                )
        named = [base for base in sorted(self._flexible) if base in item]
        if named and any(part in item for part in (".nodes", ".gpus", ".service")):
            return (
                f"there is not room for all tasks at once: {', '.join(named)} is placed when it is ready, so its nodes "
                "and GPUs are not known before; its own script has $SFLOW_TASK_ASSIGNED_NODE_NAMES"
            )
        known = ", ".join(list(self._replicas_of)[:10])
        return f"task.NAME has nodes, gpus, backend, operator, its ports and service; NAME is one of {known}"
