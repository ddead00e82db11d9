"""What the expressions of one concrete task see: variables with its swept values, its own variables, other tasks.

Names are computed when an expression is first evaluated: most tasks have no expression, and computing names
takes time.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import EXPRESSION_START, evaluate_any
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.parts.cells import PlannedItem
from sflow_ctl.planner.deferred import ItemValues, note_places, refuse_inputs
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.phases.graph import Replica
from sflow_ctl.planner.phases.variables import recomputed
from sflow_ctl.planner.source import PlanInput, Scope, namespace
from sflow_ctl.planner.tasks.scripts import Scripts, own_values


class OwnVariables(Struct, frozen=True):
    """Swept values and a replica's own variables, and the deferred expressions in them."""

    values: dict[str, Any]
    deferred: list[DeferredExpression]


class TaskScopes:
    """Makes the scope of each replica. `views` is the `task` namespace, empty before tasks are placed."""

    def __init__(
        self,
        source: PlanInput,
        scope: Scope,
        scripts: Scripts,
        views: Mapping[str, Any],
        findings: Findings,
        first_items: Mapping[str, PlannedItem] | None = None,
    ) -> None:
        """`first_items` have the item of the first copy for each list that is known, by task."""
        self.scope, self.scripts, self.views = scope, scripts, views
        self.first_items = {} if first_items is None else first_items
        self.rules, self.gpu_memory_here = source.rules, source.context.gpu_memory_here
        self.job_nodes = source.context.job_nodes
        self._source, self._findings = source, findings
        self._of_cells: dict[tuple[str, int], dict[str, Any]] = {}
        self._types = {variable.name: variable.type for variable in source.variables}
        self.has_computed = any(EXPRESSION_START in str(variable.value) for variable in source.variables)

    def views_of_items(self, task: schema.Task, *, is_single: bool = False) -> dict[str, Any]:
        """Return the names for what differs between the copies of a task with `foreach`; `is_single` for one item of a chunk."""
        assert task.foreach is not None
        from sflow_ctl.plan.parts.items import index_name  # few tasks have items

        name, first = task.foreach.as_, self.first_items.get(task.name)
        is_known = first is not None
        value, where = (None, 0) if first is None else (first.value, first.positions or 0)
        if is_single and first is not None and first.positions is not None:
            value, where = first.value[0], first.positions[0]
        return {
            name: ItemValues(value, is_known=is_known),
            index_name(name): ItemValues(
                list(where) if isinstance(where, tuple) else where, is_known=is_known
            ),
            "replica": ItemValues({"index": 0, "name": f"{task.name}_0"}, is_known=is_known),
        }

    def of(self, task: schema.Task, replica: Replica) -> "TaskScope":
        """Return what the expressions of one replica see."""
        return TaskScope(self, task, replica)

    def swept(self, replica: Replica) -> dict[str, Any]:
        """Return a replica's swept values, of the types of their variables. Raises: UnplannableError."""
        values = {}
        for name, value in replica.sweep:
            try:
                values[name] = cast(value, self._types.get(name))
            except ValueError as error:
                what = f'variable "{name}": {error}, in its domain'
                path = ("replicas", "variables")
                raise UnplannableError("wrong-value", what, "change the value or the type", path) from error
        return values

    def recomputed(self, swept: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables again where others are computed from swept ones; nothing where none is."""
        if not (swept and self.has_computed):
            return {}
        return recomputed(self._source, self.scope.namespaces, swept, self._findings)

    def recomputed_in(self, replica: Replica, swept: Mapping[str, Any]) -> dict[str, Any]:
        """Return these variables for a replica; tasks of one cell share them."""
        if replica.cell is None or len(swept) > len(replica.cell.variables):
            return self.recomputed(swept)
        cell = replica.cell.cell
        if (cell.owner, cell.index) not in self._of_cells:
            self._of_cells[cell.owner, cell.index] = self.recomputed(swept)
        return dict(self._of_cells[cell.owner, cell.index])


class TaskScope:
    """The names of one replica's expressions."""

    def __init__(self, scopes: TaskScopes, task: schema.Task, replica: Replica) -> None:
        self._scopes, self.task, self.replica = scopes, task, replica

    @cached_property
    def own(self) -> OwnVariables:
        """The replica's own variables; swept values win. Raises: UnplannableError, ExpressionError."""
        task, scopes = self.task, self._scopes
        if not scopes.rules.has_task_variables or not (task.variables or self.replica.sweep):
            return OwnVariables({}, [])
        swept = scopes.swept(self.replica)
        own = scopes.recomputed_in(self.replica, swept)
        deferred: list[DeferredExpression] = []
        for index, variable in enumerate(task.variables):
            if variable.name not in swept:
                names = namespace({**scopes.scope.values, **own, **swept}, scopes.scope.namespaces)
                names = {**self._views, **own_values(task), **names, "task": scopes.views}
                try:
                    own[variable.name], more = scopes.scripts.variable(
                        task, self.replica.name, variable, names
                    )
                except ValueError as error:
                    what = f'task "{task.name}": variable "{variable.name}": {error}'
                    path = ("variables", index, "value")
                    raise UnplannableError(
                        "wrong-value", what, "change the value or its type", path
                    ) from error
                deferred += more
        return OwnVariables({**own, **swept}, deferred)

    @cached_property
    def names(self) -> dict[str, Any]:
        """Return all names.

        Variables called `replica`, `sweep`, `port` and `ports` hide the namespaces, as the format has it.
        """
        scopes = self._scopes
        others = {**scopes.scope.namespaces, "task": scopes.views}
        names = namespace({**scopes.scope.values, **self.own.values}, others)
        for name, value in {**self._views, **own_values(self.task)}.items():
            names.setdefault(name, value)
        if self.task.args:
            names.update(self._arguments(names))
        return names

    def _arguments(self, names: dict[str, Any]) -> dict[str, str]:
        """Return `args` and `args_json` for the task's script. Raises: ExpressionError."""
        from sflow_ctl.planner.launch.flags import FILES, flags  # few tasks have some

        given = evaluate_any(self.task.args, names)
        found = {"args": flags(given, self.task.args_lists)}
        if self.task.args_json is not None:
            found["args_json"] = f"{FILES}/{self.task.args_json}"
        return {name: text for name, text in found.items() if name not in names}

    @property
    def names_of_inputs(self) -> dict[str, Any]:
        """Return the names for inputs, which in a chunk are evaluated for each item."""
        foreach = self.task.foreach
        if foreach is None or foreach.chunk is None:
            return self.names
        return {**self.names, **self._scopes.views_of_items(self.task, is_single=True)}

    def value(self, field: Any) -> Any:
        """Evaluate a field of the task. Raises: UnplannableError, ExpressionError."""
        if not has_expression(field):
            return field
        if self.task.inputs:
            refuse_inputs(self.task.name, field)
        if self.task.foreach is not None:
            from sflow_ctl.planner.growing.items import refuse_item  # few tasks have items

            refuse_item(self.task, field)
        note_places(field, self.names)
        return evaluate_any(field, self.names)

    @property
    def _views(self) -> dict[str, Any]:
        """Return what the expressions of a copy see of itself, and of its cell."""
        if self.task.foreach is not None:
            return self._scopes.views_of_items(self.task)
        views: dict[str, Any] = {"replica": {"index": self.replica.index, "name": self.replica.name}}
        if self.replica.cell is not None:
            views["sweep"] = self.replica.cell.view
        return views


def has_expression(value: Any) -> bool:
    """Return whether a value may hold an expression."""
    return isinstance(value, list | dict) or (isinstance(value, str) and EXPRESSION_START in value)
