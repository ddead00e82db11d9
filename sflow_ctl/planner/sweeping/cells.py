"""Phase: the cells of each sweep of a document, with their identities, names and values. Called by `phases/expand.py`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.format.sweep_paths import TASKS, SweepPath
from sflow_ctl.plan.parts.cells import Cell, PlannedSweep
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_count
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.sweeping.labels import distinct, identity, label, values_text
from sflow_ctl.planner.sweeping.points import Point, axes_of, cases_of, points, total

MAX_CELLS = 100_000
_SHOWN_VALUES = 6


class SweptCell(Struct, frozen=True):
    """A cell, and what it changes."""

    cell: Cell
    variables: tuple[tuple[str, Any], ...]
    """Variables of the document and their values, of the variables' types."""
    overrides: Mapping[str, tuple[tuple[SweepPath, Any], ...]]
    """Fields of tasks, by task."""

    @property
    def view(self) -> dict[str, Any]:
        """Return what expressions see as `sweep`."""
        cell = self.cell
        values = {**dict(self.variables), **dict(self.others)}
        return {"case": cell.case, "index": cell.index, "id": cell.id, "label": cell.label, "values": values}

    def others_of(self, tasks: Sequence[schema.Task]) -> Iterator[tuple[SweepPath, Any]]:
        """Yield what the cell changes of these tasks."""
        return (change for task in tasks for change in self.overrides.get(task.name, ()))

    @property
    def others(self) -> tuple[tuple[str, Any], ...]:
        """Return the values that are not variables, by path."""
        return tuple((path.text, value) for changes in self.overrides.values() for path, value in changes)


class CellSet(Struct, frozen=True):
    """The cells of one sweep, in order."""

    cells: Sequence[SweptCell]
    planned: PlannedSweep

    @property
    def owner(self) -> str:
        """The task whose own sweep it is; empty for the workflow's."""
        return self.planned.owner


def cells_of(
    source: PlanInput, sweep: schema.Sweep, owner: str, scope: Scope, findings: Findings
) -> CellSet | None:
    """Return the cells of a sweep; None where something is wrong with it, which becomes findings."""
    section, place = ("tasks", (owner,)) if owner else ("sweep", ("sweep",))
    path = ("sweep",) if owner else ()

    def where(*more: str | int) -> str:
        return findings.loaded.where(section, place[0], *path, *more)

    with findings.collecting(section, place[0], *path):
        sweep = _evaluated(sweep, scope)
        planned = _planned(sweep, owner, scope)
        if not _is_kept(sweep, planned, findings, where()):
            return None
        known = len(findings.found)
        types = {variable.name: variable.type for variable in source.variables}
        cells = _Making(sweep, owner, types, findings, where).cells(planned.cells)
        return None if len(findings.found) > known else CellSet(cells, planned)
    return None


def with_room(cells: CellSet, tasks: Sequence[schema.Task], findings: Findings) -> CellSet:
    """Return the cells with their limit: one at a time, if each has services with GPUs, which could take those of all others."""
    if cells.planned.max_parallel is not None:
        return cells
    services = [task for task in tasks if task.is_service]
    changes = {path.parts[2] for cell in cells.cells for path, _ in cell.others_of(services)}
    if not any(_has_gpus(task) for task in services) and "resources" not in changes:
        return cells
    what = f"cells run one at a time: {services[0].name} has GPUs in each; sweep.max_parallel allows more"
    findings.note("sweep-limit", what)
    return replace(cells, planned=replace(cells.planned, max_parallel=1))


def _has_gpus(task: schema.Task) -> bool:
    return task.resources is not None and task.resources.gpus is not None


def _evaluated(sweep: schema.Sweep, scope: Scope) -> schema.Sweep:
    """Return the sweep with values in place of expressions. Raises: ExpressionError."""

    def values(given: Mapping[str, Any]) -> dict[str, Any]:
        return {path: _value(value, scope, path) for path, value in given.items()}

    cases = [replace(case, set=values(case.set), axes=values(case.axes)) for case in sweep.cases]
    return replace(sweep, axes=values(sweep.axes), cases=cases)


def _value(value: Any, scope: Scope, path: str) -> Any:
    """Return values of variables evaluated; fields of tasks are evaluated with the task."""
    is_field = path.startswith(f"{TASKS}.")
    has_expression = isinstance(value, list | dict | str) and EXPRESSION_START in str(value)
    return scope.value(value) if has_expression and not is_field else value


def _planned(sweep: schema.Sweep, owner: str, scope: Scope) -> PlannedSweep:
    """Return the sweep as the plan has it. Raises: UnplannableError, ExpressionError."""
    subject = f'the sweep of task "{owner}"' if owner else "the sweep"

    def count(name: str, written: Any, least: int) -> int | None:
        path = ("sweep", name)
        return None if written is None else number(subject, path, as_count, scope.value(written), least)

    found = total(sweep)
    axes = dict.fromkeys(path for case in cases_of(sweep) for path in axes_of(sweep, case))
    paths = sorted(axes, key=lambda path: path.parts) if sweep.order == "sorted" else axes
    return PlannedSweep(
        owner=owner,
        cells=found if sweep.max_runs is None else min(found, sweep.max_runs),
        total=found,
        axes=tuple(path.text for path in paths),
        on_overflow=sweep.on_overflow,
        max_parallel=count("max_parallel", sweep.max_parallel, 1),
        gpu_budget=count("gpu_budget", sweep.gpu_budget, 1),
    )


def _is_kept(sweep: schema.Sweep, planned: PlannedSweep, findings: Findings, where: str) -> bool:
    """Say which cells are left out; return False where that is refused."""
    kept, found = planned.cells, planned.total
    if kept > MAX_CELLS:
        what = f"the sweep has {found:,} cells; at most {MAX_CELLS:,} can be planned"
        findings.add("sweep-size", what, where, "keep the first ones with max_runs, or use fewer values")
        return False
    if kept == found:
        return True
    if sweep.on_overflow == "error":
        what = f"the sweep has {found:,} cells, and max_runs is {kept:,}"
        findings.add("sweep-overflow", what, where, "use fewer values, or on_overflow: truncate")
        return False
    what = f"{kept:,} of {found:,} cells of the sweep are kept: max_runs leaves out the last {found - kept:,}"
    findings.warn("sweep-truncated", what, where, "on_overflow: error refuses this")
    return True


class _Making:
    """Makes the cells of a sweep."""

    def __init__(
        self,
        sweep: schema.Sweep,
        owner: str,
        types: Mapping[str, str | None],
        findings: Findings,
        where: Any,
    ) -> None:
        self._sweep, self._owner, self._types = sweep, owner, types
        self._findings, self._where = findings, where
        self._cases = cases_of(sweep)
        self._typed: dict[tuple[str, type, Any], Any] = {}

    def cells(self, count: int) -> list[SweptCell]:
        kept = list(islice(points(self._sweep), count))
        typed = [{path: self._cast(path, value, point) for path, value in point.values} for point in kept]
        if self._findings.found:
            return []
        ids = [identity({path.text: value for path, value in values.items()}) for values in typed]
        self._refuse_equal(kept, ids)
        fixed = [len(case.set) for case in self._cases]
        labels = distinct(
            [
                label(self._cases[point.case].name, point.values[fixed[point.case] :], cell_id)
                for point, cell_id in zip(kept, ids, strict=True)
            ],
            ids,
        )
        return list(map(self._cell, range(len(kept)), kept, typed, ids, labels))

    def _cell(
        self, index: int, point: Point, typed: Mapping[SweepPath, Any], cell_id: str, name: str
    ) -> SweptCell:
        overrides: dict[str, tuple[tuple[SweepPath, Any], ...]] = {}
        for path, value in typed.items():
            if path.variable is None:
                task = path.parts[1]
                overrides[task] = (*overrides.get(task, ()), (path, value))
        cell = Cell(
            index=index,
            id=cell_id,
            label=name,
            case=self._cases[point.case].name,
            owner=self._owner,
            values=values_text({path.text: value for path, value in typed.items()}),
        )
        variables = tuple(
            (path.variable, value) for path, value in typed.items() if path.variable is not None
        )
        return SweptCell(cell, variables, overrides)

    def _cast(self, path: SweepPath, value: Any, point: Point) -> Any:
        """Return a value as its variable's type has it; one that has none becomes a finding."""
        kind = self._types.get(path.variable) if path.variable is not None else None
        if kind is None:
            return value
        try:
            return cast(value, kind)
        except ValueError as error:
            where = self._where(*self._place(path, point))
            self._findings.add(
                "wrong-value", f'variable "{path.text}": {error}', where, "change the value or the type"
            )
            return value

    def _place(self, path: SweepPath, point: Point) -> tuple[str | int, ...]:
        case = self._cases[point.case]
        if path.written in case.set:
            return ("cases", point.case, "set", path.written)
        return (
            ("cases", point.case, "axes", path.written)
            if path.written in case.axes
            else ("axes", path.written)
        )

    def _refuse_equal(self, kept: Sequence[Point], ids: Sequence[str]) -> None:
        first: dict[str, int] = {}
        for index, cell_id in enumerate(ids):
            earlier = first.setdefault(cell_id, index)
            if earlier == index:
                continue
            shown = ", ".join(_shown(kept[index]))
            both = f"{self._origin(kept[earlier])} and {self._origin(kept[index])}"
            what = f"cells {earlier} and {index} of the sweep have the same values ({shown}): {both}"
            where = self._where(*(("cases", kept[index].case) if self._sweep.cases else ("axes",)))
            self._findings.add("equal-cells", what, where, "change or drop one of them")
            return

    def _origin(self, point: Point) -> str:
        if not self._sweep.cases:
            return "an axis lists a value twice"
        place = self._where("cases", point.case).partition("  ")[0]
        return f'case "{self._cases[point.case].name}" ({place})'


def _shown(point: Point) -> Iterator[str]:
    for path, value in point.values[:_SHOWN_VALUES]:
        yield f"{path.text}={value}"


def refused(task: str, what: str, hint: str, *path: str) -> UnplannableError:
    """Return the error about a task that cannot be in a sweep."""
    return UnplannableError("conflicting-keys", f'task "{task}" {what}', hint, path)
