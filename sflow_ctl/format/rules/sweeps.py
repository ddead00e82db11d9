"""Rules for sweeps: their names, paths and values. Which cells there are is the planner's work.

Called by `rules/document.py`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.field_lookup import fields_at, struct_at
from sflow_ctl.format.rules.names import NAME_HINT, unsafe_name
from sflow_ctl.format.sweep_paths import (
    FIXED,
    TASK_FIELDS,
    TASKS,
    VARIABLES,
    SweepPath,
    overlaps,
    spelled_out,
)

Where = Callable[..., str]


def sweep_findings(document: schema.Document, where: Where) -> Iterator[Finding]:
    """Check the sweep of the workflow, and those of tasks."""
    if document.sweep is not None:
        yield from _Rules(document, document.sweep, None, lambda *path: where("sweep", "sweep", *path)).all()
    for task in document.workflow.tasks:
        if isinstance(task.sweep, schema.Sweep):
            yield from _task_findings(document, task, task.sweep, where)
        if isinstance(task.sweep, bool) and document.sweep is None:
            what = f'task "{task.name}" says sweep: {str(task.sweep).lower()}, and the workflow has no sweep'
            hint = "add sweep: {axes: ...} to the file, or drop this line"
            yield Finding("conflicting-keys", what, where("tasks", task.name, "sweep"), hint)


def _task_findings(
    document: schema.Document, task: schema.Task, sweep: schema.Sweep, where: Where
) -> Iterator[Finding]:
    place = where("tasks", task.name, "sweep")
    yield from _Rules(document, sweep, task, lambda *path: where("tasks", task.name, "sweep", *path)).all()
    if task.finally_:
        what = f'task "{task.name}" runs at the end of the run, and has a sweep'
        yield Finding("conflicting-keys", what, place, "drop one of them")


class _Rules:
    """The checks of one sweep; `task` is whose it is, None for the workflow's."""

    def __init__(
        self, document: schema.Document, sweep: schema.Sweep, task: schema.Task | None, where: Where
    ) -> None:
        self.sweep, self.where = sweep, where
        self.owner = task
        self.tasks = {one.name: one for one in document.workflow.tasks}
        self.variables = [one.name for one in (*document.variables, *document.workflow.variables)]

    def all(self) -> Iterator[Finding]:
        """Yield everything that is wrong."""
        sweep = self.sweep
        if not sweep.axes and not sweep.cases:
            hint = "add axes: {lr: [0.1, 0.01]}, or cases: [{name: small, set: {layers: 12}}]"
            yield Finding("empty-sweep", "a sweep needs axes or cases", self.where(), hint)
        if sweep.max_runs is not None and sweep.max_runs < 1:
            what = f"max_runs is {sweep.max_runs}: it must be at least 1"
            yield Finding("wrong-value", what, self.where("max_runs"), "leave it out to keep all cells")
        yield from self._names()
        shared = [*self._placed(sweep.axes, ("axes",))]
        yield from self._values(sweep.axes, ("axes",))
        yield from self._overlaps(shared)
        for index, case in enumerate(sweep.cases):
            place: tuple[str | int, ...] = ("cases", index)
            own = [*self._placed(case.set, (*place, "set")), *self._placed(case.axes, (*place, "axes"))]
            yield from self._values(case.axes, (*place, "axes"))
            yield from self._overlaps([*shared, *own], only=own)
        seen: set[str] = set()
        for path, place in self._all_paths():
            if path.written not in seen:
                seen.add(path.written)
                yield from self._path(path, place)

    def _names(self) -> Iterator[Finding]:
        first: dict[str, int] = {}
        for index, case in enumerate(self.sweep.cases):
            place = self.where("cases", index, "name")
            problem = "is blank" if not case.name.strip() else unsafe_name(case.name)
            if problem:
                yield Finding("unsafe-name", f'the name of case "{case.name}" {problem}', place, NAME_HINT)
            elif case.name in first:
                where = self.where("cases", first[case.name], "name").partition("  ")[0]
                what = f'two cases are called "{case.name}": the other one is at {where}'
                yield Finding("duplicate-case", what, place, "give every case a name of its own")
            first.setdefault(case.name, index)

    def _values(self, axes: dict[str, list[Any]], place: tuple[str | int, ...]) -> Iterator[Finding]:
        for path, values in axes.items():
            if not values:
                what = f"the axis {path} has no values, so the sweep has no cells"
                yield Finding("empty-axis", what, self.where(*place, path), "list at least one, or drop it")

    @staticmethod
    def _placed(
        values: dict[str, Any], place: tuple[str | int, ...]
    ) -> Iterator[tuple[SweepPath, tuple[str | int, ...]]]:
        return ((spelled_out(path), (*place, path)) for path in values)

    def _all_paths(self) -> Iterator[tuple[SweepPath, tuple[str | int, ...]]]:
        yield from self._placed(self.sweep.axes, ("axes",))
        for index, case in enumerate(self.sweep.cases):
            yield from self._placed(case.set, ("cases", index, "set"))
            yield from self._placed(case.axes, ("cases", index, "axes"))

    def _overlaps(
        self,
        paths: list[tuple[SweepPath, tuple[str | int, ...]]],
        only: list[tuple[SweepPath, tuple[str | int, ...]]] | None = None,
    ) -> Iterator[Finding]:
        """Find paths of which one would overwrite the other; with `only`, those of which one is among these."""
        places: dict[SweepPath, list[tuple[str | int, ...]]] = {}
        for path, place in paths:
            places.setdefault(path, []).append(place)
        counted = None if only is None else {place for _, place in only}
        for one, other in overlaps(path for path, _ in paths):
            first, second = places[one][0], places[other][-1]
            if counted is not None and counted.isdisjoint((first, second)):
                continue
            same = "the same value" if one.parts == other.parts else "overlapping values"
            where = self.where(*first).partition("  ")[0]
            what = f"{other.written} and {one.written} ({where}) set {same}: one would overwrite the other"
            yield Finding("sweep-overlap", what, self.where(*second), "keep one of them")

    def _path(self, path: SweepPath, place: tuple[str | int, ...]) -> Iterator[Finding]:
        parts, where = path.parts, self.where(*place)
        if not all(part.strip() for part in parts):
            yield Finding(
                "wrong-path", f'the path "{path.written}" has an empty part', where, "e.g. variables.lr"
            )
        elif parts[0] == VARIABLES:
            yield from self._variable(path, where)
        elif parts[0] == TASKS:
            yield from self._task_path(path, where)
        elif parts[0] in FIXED:
            what = f"{path.written} cannot differ between cells: {FIXED[parts[0]]}"
            yield Finding("wrong-path", what, where, "sweep a variable, or tasks.TASK.FIELD")
        else:
            what = f'the path "{path.written}" begins with neither variables nor tasks'
            hint = guess_hint(
                parts[0], (VARIABLES, TASKS), f"e.g. variables.{parts[-1]}, or tasks.TASK.timeout"
            )
            yield Finding("wrong-path", what, where, hint)

    def _variable(self, path: SweepPath, where: str) -> Iterator[Finding]:
        if len(path.parts) > 2:
            what = f"{path.written} is inside a variable: a cell gives a whole one"
            yield Finding("wrong-path", what, where, f"sweep variables.{path.parts[1]}")
        elif path.parts[1] not in self.variables:
            what = f'the sweep names the unknown variable "{path.parts[1]}"'
            otherwise = f"define it under variables:, e.g. {path.parts[1]}: 0"
            if path.parts[1] in FIXED:
                otherwise = FIXED[path.parts[1]]
            yield Finding(
                "unknown-variable", what, where, guess_hint(path.parts[1], self.variables, otherwise)
            )

    def _task_path(self, path: SweepPath, where: str) -> Iterator[Finding]:
        parts = path.parts
        if len(parts) < 3:
            what = f"{path.written} names no field of a task"
            yield Finding("wrong-path", what, where, f"e.g. tasks.{parts[1]}.timeout")
            return
        task = self.tasks.get(parts[1])
        if task is None:
            what, names = f'the sweep names the unknown task "{parts[1]}"', list(self.tasks)
            yield Finding(
                "unknown-task",
                what,
                where,
                guess_hint(parts[1], names, f"tasks here: {', '.join(names[:10])}"),
            )
            return
        if self.owner is not None and self.owner.name != task.name:
            what = f'the sweep of task "{self.owner.name}" cannot change task "{task.name}"'
            yield Finding("wrong-path", what, where, "move it to a sweep of the workflow")
            return
        if task.sweep is False or (isinstance(task.sweep, schema.Sweep) and self.owner is None):
            what = f"{path.written} changes a task that the sweep of the workflow does not apply to"
            yield Finding("wrong-path", what, where, f"drop the path, or sweep of task {task.name}")
        yield from _field(task, path, where)


def _field(task: schema.Task, path: SweepPath, where: str) -> Iterator[Finding]:
    """Check that a field of a task exists, and that a cell may change it."""
    field, inside = path.parts[2], path.parts[3:]
    allowed = [name for name in TASK_FIELDS if name in schema.Task.__struct_encode_fields__]
    if field not in allowed:
        is_known = field in schema.Task.__struct_encode_fields__
        what = f"{path.written} cannot differ between cells" if is_known else f'a task has no field "{field}"'
        otherwise = f"one of {', '.join(allowed)}; anything else can use a swept variable"
        yield Finding(
            "wrong-path", what, where, otherwise if is_known else guess_hint(field, allowed, otherwise)
        )
        return
    if field in ("variables", "args"):
        names = [one.name for one in task.variables] if field == "variables" else [*task.args]
        if len(inside) != 1 or inside[0] not in names:
            kind = "variable" if field == "variables" else "argument"
            what = f'task "{task.name}" has no {kind} "{".".join(inside)}" of its own'
            yield Finding(
                "unknown-variable", what, where, guess_hint(".".join(inside), names, "define it there")
            )
        return
    for depth, key in enumerate(inside):
        parent = (field, *inside[:depth])
        fields = fields_at(schema.Task, parent) if struct_at(schema.Task, parent) is not None else ()
        if key not in fields:
            what = f'{path.written}: "{".".join(parent)}" has no field "{key}"'
            hint = guess_hint(key, fields, f"it has {', '.join(fields)}" if fields else "it is one value")
            yield Finding("wrong-path", what, where, hint)
            return
