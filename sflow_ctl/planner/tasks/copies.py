"""Finds copies of a task that differ from its first one in nothing but their names. `phases.tasks` calls this.

Most of 100,000 replicas are such copies. They share one script, environment and command line, also in memory, and those that
have the same place are one entry of the plan.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.model import Dependency, Placement, PlannedTask
from sflow_ctl.plan.parts.cells import Cell
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.launch.plan import MASTER_PORT, LaunchPlan
from sflow_ctl.planner.phases.graph import Replica
from sflow_ctl.planner.phases.variables import environment_text
from sflow_ctl.planner.placement.placed import PlacedTask
from sflow_ctl.planner.tasks.environment import without_own

if TYPE_CHECKING:
    from sflow_ctl.planner.sweeping.cells import SweptCell
    from sflow_ctl.planner.sweeping.scripts import CellScript

_LONG = 8192
"""Characters of a script that is surely short enough to start a process with."""


class EqualCopies(Struct):
    """The planned copies of each task of which others can be made, by place."""

    has_plain_operators: bool
    """No operator of the document has an expression, which could name the replica."""
    has_plain_environments: bool = True
    """Likewise the environments of tasks."""
    has_computed: bool = False
    """Variables are computed from others, which a sweep may change."""
    hidden: Collection[str] = ()
    """Variables whose names mean other things in expressions."""
    _is_plain: dict[tuple[str, int], bool] = {}
    _first: dict[tuple[str, int, Placement, object], PlannedTask] = {}

    _scripts: dict[tuple[str, int], "CellScript | None"] = {}
    """Of swept tasks in which only the script has expressions."""
    _environments: dict[str, dict[str, str]] = {}
    """The last one of each task."""
    _texts: dict[int, tuple["SweptCell", tuple[tuple[str, str], ...]]] = {}
    """The swept values of cells, which all tasks of a cell share, by the identity of the cell."""

    @classmethod
    def of(cls, document: schema.Document, *, has_computed: bool, hidden: Collection[str]) -> "EqualCopies":
        """Return none yet."""
        return cls(_are_plain(document.operators), _are_plain(document.environments), has_computed, hidden)

    def fields_of(
        self, launch: LaunchPlan, shared: Mapping[str, str], task: schema.Task, replica: Replica
    ) -> dict[str, Any]:
        """Return the fields of a copy that say how it is started, with the variables that it shares with others as one table."""
        env = without_own(without_cell(launch, shared, replica))
        if self._environments.get(task.name) != env:
            self._environments[task.name] = env
        return {**msgspec.structs.asdict(launch), "env": self._environments[task.name]}

    def like(self, placed: PlacedTask, depends_on: tuple[Dependency, ...]) -> PlannedTask | None:
        """Return the copy, if an equal one was planned."""
        kind = _kind(placed)
        script = self._scripts.get(kind)
        is_known = self._is_plain.get(kind) or script is not None
        first = self._first.get(_key(placed)) if is_known else None
        if first is None:
            return None
        replica = placed.replica
        written = {} if script is None else _with_script(first, script.of(replica))
        if written is None:
            return None
        return msgspec.structs.replace(
            first,
            **written,
            name=replica.name,
            replica_index=replica.index,
            depends_on=depends_on,
            sweep=self._texts_of(replica),
            cell=cell_of(replica),
            item=placed.expanded.item_of(replica),
        )

    def _texts_of(self, replica: Replica) -> tuple[tuple[str, str], ...]:
        """Return the values of a copy in its sweep, as text; one tuple for all copies that have only those of the cell."""
        cell = replica.cell
        if cell is None or replica.sweep is not cell.variables:
            return swept_texts(replica)
        known = self._texts.get(id(cell))
        if known is None:
            known = self._texts[id(cell)] = (
                cell,
                swept_texts(replica),
            )  # the cell is kept, and with it its identity
        return known[1]

    def learn(self, placed: PlacedTask, planned: PlannedTask) -> None:
        """Keep a copy that others may be made of."""
        if not placed.expanded.is_replicated:
            return
        if self.are_alike(placed, planned) or self._differ_in_script(placed, planned):
            self._first.setdefault(_key(placed), planned)

    def are_alike(self, placed: PlacedTask, planned: PlannedTask) -> bool:
        """Return whether other copies of a planned one differ from it only in name, index and dependencies."""
        task, kind = placed.task, _kind(placed)
        if kind not in self._is_plain:
            self._is_plain[kind] = task.foreach is not None or (
                not _has_expressions(task)
                and (self.has_plain_operators or task.operator is None)
                and self.has_plain_environments
            )
        return (
            self._is_plain[kind]
            and _depends_on_its_place_only(planned, placed.replica)
            and not (placed.replica.cell is not None and self.has_computed)
        )

    def _differ_in_script(self, placed: PlacedTask, planned: PlannedTask) -> bool:
        """Return whether copies in other cells differ from a planned one only in name, dependencies and script."""
        task, kind, replica = placed.task, _kind(placed), placed.replica
        if replica.cell is None or task.launcher is not None or self.has_computed or SECRETS.mask:
            return False
        if not (planned.argv and planned.script and planned.argv[-1].endswith(planned.script)):
            return False
        if not _depends_on_its_place_only(planned, replica):
            return False
        if kind not in self._scripts:
            is_elsewhere = _has_expressions(msgspec.structs.replace(task, script=[]))
            has_operator = task.operator is not None and not self.has_plain_operators
            self._scripts[kind] = None
            if not is_elsewhere and not has_operator:
                from sflow_ctl.planner.sweeping.scripts import cell_script  # most workflows have no sweep

                self._scripts[kind] = cell_script(task, [name for name, _ in replica.sweep], self.hidden)
        return self._scripts[kind] is not None


def _with_script(first: PlannedTask, script: str | None) -> dict[str, Any] | None:
    """Return the fields of a planned task that another script changes; None if it has to be planned by itself."""
    if script is None or len(script) > _LONG or MASTER_PORT in script or MASTER_PORT in first.script:
        return None
    head = first.argv[-1][: -len(first.script)]
    return {"script": script, "argv": (*first.argv[:-1], f"{head}{script}")}


def _are_plain(parts: Sequence[schema.Operator] | Sequence[schema.Environment]) -> bool:
    return not any(map(_has_expressions, parts))


def _has_expressions(part: schema.Task | schema.Operator | schema.Environment) -> bool:
    return EXPRESSION_START in repr(part)


def _kind(placed: PlacedTask) -> tuple[str, int]:
    """Return what all copies of a task have in common, in a sweep those of cells that change the same fields of it."""
    task = placed.replica.task
    return placed.task.name, 0 if task is None else id(task)


def _key(placed: PlacedTask) -> tuple[str, int, Placement, object]:
    return (*_kind(placed), placed.placement, placed.alternative)


def without_cell(launch: LaunchPlan, shared: Mapping[str, str], replica: Replica) -> Mapping[str, str]:
    """Return the variables of a copy without those of its cell, which `PlannedTask.environment` adds to the `shared` ones.

    What is started by another program than an agent's shell keeps them: its command line may name them.
    """
    if replica.cell is None or launch.launch_kind != "process" or launch.container is not None:
        return launch.env
    env = dict(launch.env)
    for name, _ in replica.sweep:
        if name in shared:
            env[name] = shared[name]
        else:
            env.pop(name, None)
    return env


def cell_of(replica: Replica) -> Cell | None:
    """Return the cell of a sweep that a copy belongs to."""
    return None if replica.cell is None else replica.cell.cell


def swept_texts(replica: Replica) -> tuple[tuple[str, str], ...]:
    """Return the values of a copy in its sweep, as text."""
    others = replica.cell.others if replica.cell is not None else ()
    return tuple((name, environment_text(value)) for name, value in (*replica.sweep, *others))


def _depends_on_its_place_only(planned: PlannedTask, replica: Replica) -> bool:
    """Return whether nothing of a planned task was made from its name."""
    return (
        planned.launch_kind == "process"
        and planned.container is None
        and planned.success is None
        and not ((replica.sweep and replica.cell is None) or planned.ports or planned.uploads)
        # With `foreach` expressions are late if they use what differs, and all else is the same for all copies.
        and (planned.foreach is not None or not (planned.files or planned.inputs or planned.deferred))
    )
