"""What the expressions of one concrete task see: variables with its swept values, its own variables, other tasks.

Names are computed when an expression is first evaluated: most tasks have no expression, and computing names
takes time.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.format.expressions.templates import EXPRESSION_START, evaluate_any
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.planner.deferred import note_places
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.phases.expand import Replica
from sflow_ctl.planner.phases.variables import resolve
from sflow_ctl.planner.source import PlanInput, Scope, namespace
from sflow_ctl.planner.tasks.scripts import Scripts, own_ports


class OwnVariables(NamedTuple):
    """Swept values and a replica's own variables, and the deferred expressions in them."""

    values: dict[str, Any]
    deferred: list[DeferredExpression]


class TaskScopes:
    """Makes the scope of each replica. `views` is the `task` namespace, empty before tasks are placed."""

    def __init__(
        self, source: PlanInput, scope: Scope, scripts: Scripts, views: Mapping[str, Any], findings: Findings
    ) -> None:
        self.scope, self.scripts, self.views = scope, scripts, views
        self.rules = source.rules
        self._variables, self._findings = source.variables, findings
        self._types = {variable.name: variable.type for variable in source.variables}
        self._has_computed = any(has_expression(variable.value) for variable in source.variables)

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
        if not (swept and self._has_computed):
            return {}
        variables = [
            variable
            if variable.name not in swept
            else msgspec.structs.replace(variable, value=swept[variable.name])
            for variable in self._variables
        ]
        return resolve(variables, {}, self.scope.namespaces, "variables", self._findings)


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
        own = scopes.recomputed(swept)
        deferred: list[DeferredExpression] = []
        for index, variable in enumerate(task.variables):
            if variable.name not in swept:
                names = namespace({**scopes.scope.values, **own, **swept}, scopes.scope.namespaces)
                names = {"replica": self._replica_view, **own_ports(task), **names, "task": scopes.views}
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

        Variables called `replica`, `port` and `ports` hide the namespaces, as the format has it.
        """
        scopes = self._scopes
        others = {**scopes.scope.namespaces, "task": scopes.views}
        names = namespace({**scopes.scope.values, **self.own.values}, others)
        for name, value in {"replica": self._replica_view, **own_ports(self.task)}.items():
            names.setdefault(name, value)
        return names

    def value(self, field: Any) -> Any:
        """Evaluate a field of the task. Raises: UnplannableError, ExpressionError."""
        if not has_expression(field):
            return field
        note_places(field, self.names)
        return evaluate_any(field, self.names)

    @property
    def _replica_view(self) -> dict[str, Any]:
        return {"index": self.replica.index, "name": self.replica.name}


def has_expression(value: Any) -> bool:
    """Return whether a value may hold an expression."""
    return isinstance(value, list | dict) or (isinstance(value, str) and EXPRESSION_START in value)
