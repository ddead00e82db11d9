"""Which expressions must wait until their task starts, and whether what they use will be known by then.

They use outputs of earlier tasks, or ports: those are leased when they are needed, also for a task that starts later, so a
port is known without its task being waited for. Only where nobody knows yet which node it will be (a flexible placement)
must the task come before.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import MARK, as_text, evaluate, names_used, pieces
from sflow_ctl.format.written import as_written
from sflow_ctl.format.yaml_source import PathKey
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.task_views import OWN
from sflow_ctl.planner.findings import UnplannableError

_OUTPUTS = re.compile(r"\boutputs\b")
_LATE = re.compile(r"\b(?:outputs|ports?|endpoints?)\b")
_PLACE = re.compile(r"\b(?:nodes|gpus)\b")
_NAMED = re.compile(r"\btask(?:\.(\w+)|\[\s*[\"']([^\"']+)[\"']\s*\])")


class OwnPorts(dict[str, Any]):
    """`port` or `ports` of a task while it is planned: a variable of that name is something else."""


class TaskNamespace(dict[str, Any]):
    """The `task` namespace while tasks are planned.

    Expressions on nodes and GPUs of a task that may be moved to other ones are late. Whose were evaluated already is noted.
    """

    def __init__(self, views: Mapping[str, Any], movable: Collection[str]) -> None:
        """`movable` are names, concrete or as written, of tasks that may start again elsewhere."""
        super().__init__(views)
        self._movable = movable
        self._used: set[str] = set()
        self._is_any_used = False

    def follows(self, source: str) -> bool:
        """Return whether an expression must wait because it uses a place that may change."""
        if not self._movable or _PLACE.search(source) is None:
            return False
        named = self._named(source)
        return any(name in self._movable for name in named) if named else "task" in source

    def note(self, source: str) -> None:
        """Note that an expression is evaluated now: the places that it uses must not change any more."""
        if _PLACE.search(source) is not None:
            named = self._named(source)
            self._used.update(named)
            self._is_any_used = self._is_any_used or (not named and "task" in source)

    def _named(self, source: str) -> list[str]:
        """Return the tasks that an expression names; none where it finds them out itself, as in a loop over all."""
        named = tasks_named(source)
        return named if all(name in self for name in named) else []

    def is_place_used(self, *names: str) -> bool:
        """Return whether an expression on the nodes or GPUs of the task with these names was evaluated."""
        return self._is_any_used or not self._used.isdisjoint(names)


class Known(NamedTuple):
    """What a check of late expressions needs of the document."""

    tasks: Mapping[str, schema.Task]
    base_of: Mapping[str, str]
    """Of concrete names and of those as written."""
    ancestors: Callable[[str], frozenset[str]]
    flexible: Collection[str]
    """Tasks as written whose nodes nobody knows before they start."""


def is_late(text: str, names: Mapping[str, Any]) -> bool:
    """True for a text with an expression that uses outputs or ports. `names` are those it sees."""
    return MARK in text and any(_is_late(piece.text, names) for piece in pieces(text) if piece.is_expression)


def _is_late(source: str, names: Mapping[str, Any]) -> bool:
    if _LATE.search(source) is None:
        tasks = names.get("task")
        if not isinstance(tasks, TaskNamespace):
            return False
        if not tasks.follows(source):
            tasks.note(source)
            return False
    return are_late(names_used(f"{MARK} {source} }}}}"), names)


def are_late(used: Iterable[str], names: Mapping[str, Any]) -> bool:
    """True when one of the names that are used is known only at the start of a task."""
    return any(name == "task" or (name in OWN and isinstance(names.get(name), OwnPorts)) for name in used)


def note_places(value: Any, names: Mapping[str, Any]) -> None:
    """Note whose nodes and GPUs a field uses that is evaluated now, whatever else is late."""
    tasks = names.get("task")
    if not isinstance(tasks, TaskNamespace):
        return
    if isinstance(value, str) and MARK in value:
        tasks.note(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            note_places(part, names)


def early_names(used: Iterable[str], names: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the names that are used and known now."""
    return {
        name: as_written(names[name])
        for name in used
        if name in names and name != "task" and not isinstance(names[name], OwnPorts)
    }


def needs_outputs(mark: str) -> bool:
    """True for an expression on outputs."""
    return _OUTPUTS.search(mark) is not None


def rendered_early(text: str, names: Mapping[str, Any]) -> tuple[str, list[DeferredExpression]]:
    """The text with all but its late expressions evaluated; those stay in it as marks.

    Raises: ExpressionError.
    """
    parts, late = [], []
    for piece in pieces(text):
        mark = f"{MARK} {piece.text} }}}}"
        if not piece.is_expression:
            parts.append(piece.text)
        elif _is_late(piece.text, names):
            late.append(DeferredExpression(mark=mark, names=early_names(names_used(mark), names)))
            parts.append(mark)
        else:
            parts.append(as_text(evaluate(mark, names)))
    return "".join(parts), late


def tasks_named(mark: str) -> list[str]:
    """The tasks that an expression names, concrete or as written."""
    return [match[1] or match[2] for match in _NAMED.finditer(mark)]


def check_outputs(task: schema.Task, mark: str, known: Known, path: tuple[PathKey, ...]) -> None:
    """Tasks that an expression on outputs names must have some, and have completed before. Raises: UnplannableError."""
    for name in tasks_named(mark):
        base = known.base_of.get(name)
        if base is None:
            tasks = ", ".join(list(known.tasks)[:10])
            what = f'Failed to resolve task expression: task "{task.name}": "{name}" is not defined'
            raise UnplannableError("undefined-name", what, f"tasks here: {tasks}", path)
        if not known.tasks[base].outputs:
            what = f'task "{task.name}" uses the outputs of "{base}", which declares none'
            raise UnplannableError("no-outputs", what, f"add outputs: to task {base}", path)
        if base not in known.ancestors(task.name):
            what = f'task "{task.name}" uses the outputs of "{base}", which need not have completed by then'
            raise UnplannableError("outputs-too-late", what, f"add {base} to its depends_on", path)
        if known.tasks[base].is_service:
            what = (
                f'task "{task.name}" uses the outputs of "{base}", a service: they are known only at its end'
            )
            raise UnplannableError("outputs-too-late", what, "take them from a task that completes", path)


def check_ports(task: schema.Task, used: Sequence[str], known: Known, path: tuple[PathKey, ...]) -> None:
    """The nodes of tasks whose ports are used must be known by then. Raises: UnplannableError."""
    for name in used:
        base = known.base_of[name]
        if base in known.flexible and base not in known.ancestors(task.name):
            what = (
                f'task "{task.name}" uses a port of "{name}", and there is not room for all tasks at once: on which node '
                "that will be is decided when it is ready"
            )
            hint = f"add {base} to the depends_on of {task.name}, or name its nodes: resources: {{nodes: {{indices: ...}}}}"
            raise UnplannableError("ports-too-late", what, hint, path)
