"""Finds copies of a task that differ from its first one in nothing but their names. `phases.tasks` calls this.

Most of 100,000 replicas are such copies. They share one script, environment and command line, also in memory, and those that
have the same place are one entry of the plan.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.model import Dependency, Placement, PlannedTask
from sflow_ctl.planner.phases.expand import Replica
from sflow_ctl.planner.placement.placed import PlacedTask
from sflow_ctl.planner.tasks.environment import without_own


class EqualCopies(Struct):
    """The planned copies of each task of which others can be made, by place."""

    has_plain_operators: bool
    """No operator of the document has an expression, which could name the replica."""
    _is_plain: dict[str, bool] = {}
    _first: dict[tuple[str, Placement, object], PlannedTask] = {}

    _environments: dict[str, dict[str, str]] = {}
    """The last one of each task."""

    @classmethod
    def of(cls, operators: Sequence[schema.Operator]) -> "EqualCopies":
        """Return none yet. `operators` are those of the document."""
        return cls(not any(map(_has_expressions, operators)))

    def environment(self, task: schema.Task, env: Mapping[str, str]) -> dict[str, str]:
        """Return the part of a copy's variables that it shares with others, as one table where it is equal."""
        shared = without_own(env)
        if self._environments.get(task.name) != shared:
            self._environments[task.name] = shared
        return self._environments[task.name]

    def like(self, placed: PlacedTask, depends_on: tuple[Dependency, ...]) -> PlannedTask | None:
        """Return the copy, if an equal one was planned."""
        first = self._first.get(_key(placed)) if self._is_plain.get(placed.task.name) else None
        if first is None:
            return None
        replica = placed.replica
        return msgspec.structs.replace(
            first, name=replica.name, replica_index=replica.index, depends_on=depends_on
        )

    def learn(self, placed: PlacedTask, planned: PlannedTask) -> None:
        """Keep a copy that others may be made of."""
        if not placed.expanded.is_replicated:
            return
        if self.are_alike(placed, planned):
            self._first.setdefault(_key(placed), planned)

    def are_alike(self, placed: PlacedTask, planned: PlannedTask) -> bool:
        """Return whether other copies of a planned one differ from it only in name, index and dependencies."""
        task = placed.task
        if task.name not in self._is_plain:
            self._is_plain[task.name] = not _has_expressions(task) and (
                self.has_plain_operators or task.operator is None
            )
        return self._is_plain[task.name] and _depends_on_its_place_only(planned, placed.replica)


def _has_expressions(part: schema.Task | schema.Operator) -> bool:
    return EXPRESSION_START in repr(part)


def _key(placed: PlacedTask) -> tuple[str, Placement, object]:
    return placed.task.name, placed.placement, placed.alternative


def _depends_on_its_place_only(planned: PlannedTask, replica: Replica) -> bool:
    """Return whether nothing of a planned task was made from its name."""
    return (
        planned.launch_kind == "process"
        and planned.container is None
        and planned.success is None
        and not (replica.sweep or planned.ports or planned.files or planned.uploads or planned.deferred)
    )
