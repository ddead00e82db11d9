"""The input of every phase: the checked document, the facts from outside its files, and the names that expressions see.

Decides nothing.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import DOMAINS, evaluate_any
from sflow_ctl.planner.compatibility import BY_NAME, Compatibility
from sflow_ctl.planner.context import PlanContext

NAMESPACES = ("variables", "backends", "artifacts", "workflow", "task")


def namespace(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return all names an expression sees: bare variables, `variables`, and the other namespaces, which win."""
    return {**values, **others, "variables": values}


class PlanInput(Struct, frozen=True):
    """The input of the pipeline; no phase changes it."""

    document: schema.Document
    context: PlanContext

    @property
    def rules(self) -> Compatibility:
        """Which rules apply to this plan."""
        return BY_NAME[self.context.compat]

    @property
    def tasks(self) -> list[schema.Task]:
        """Tasks as written."""
        return self.document.workflow.tasks

    @property
    def asks_for_monitors(self) -> bool:
        """Whether the document has a monitor, or an option asks for one."""
        is_in_file = self.document.workflow.monitor is not None or any(
            task.monitor is not None for task in self.tasks
        )
        return is_in_file or self.context.monitors_workflow or bool(self.context.monitored_tasks)

    @property
    def variables(self) -> tuple[schema.Variable, ...]:
        """Variables of both levels as written, outer ones first."""
        return (*self.document.variables, *self.document.workflow.variables)


def workflow_view(document: schema.Document) -> dict[str, Any]:
    """Return the `workflow` namespace: its name, and its inputs if it has any."""
    view: dict[str, Any] = {"name": document.workflow.name}
    if document.workflow.inputs:
        from sflow_ctl.planner.handover.workflow_values import workflow_inputs  # few workflows have any

        view["inputs"] = workflow_inputs(document.workflow)
    return view


def domains_of(document: schema.Document) -> dict[str, Any]:
    """Return the namespace with the domains of all variables."""
    variables = (*document.variables, *document.workflow.variables)
    return {DOMAINS: {variable.name: list(variable.domain or ()) for variable in variables}}


class Scope(Struct, frozen=True, dict=True):
    """What expressions outside tasks see: variables, and the namespaces that are known at that phase."""

    values: Mapping[str, Any]
    namespaces: Mapping[str, Any]

    @cached_property
    def names(self) -> dict[str, Any]:
        """Return all names together."""
        return namespace(self.values, self.namespaces)

    def value(self, field: Any) -> Any:
        """Evaluate a field of the document. Raises: ExpressionError."""
        return evaluate_any(field, self.names)
