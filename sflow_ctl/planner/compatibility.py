"""`--compat` as one object: how planning with the rules of a version of sflow differs from our own rules.

Phases ask the policy of their `PlanInput`; no phase compares modes. docs/format.md lists the differences for users.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.format import schema
from sflow_ctl.format.casting import cast
from sflow_ctl.plan.words import Compat, Until


class Compatibility(Struct, frozen=True, kw_only=True):
    """Which rules apply. The defaults are ours."""

    untyped_is_text: bool = False
    """Once all are resolved, turn a variable without a type into text in Python's spelling."""
    has_task_variables: bool = True
    """Evaluate variables of tasks, and swept values in expressions. Without them a sweep changes the
    environment only.
    """
    has_time_limits: bool = True
    """Honour `timeout` of tasks and workflows."""
    has_success: bool = True
    """Honour `success` of tasks and workflows."""
    queues_for_room: bool = True
    """Let a task without room wait for it. If False, the static plan must have room for all tasks."""
    retries_late_services: bool = True
    """Let `retries` and `restart` count after a missed deadline for readiness."""
    fault_attempts: int = 2
    """`infra_count` of jobs that say nothing: further attempts after faults of nodes, if possible on other ones."""
    services_may_leave: bool = False
    """Count a ready service that ends with success as done, even if others still need it."""
    local_tasks_have_one_process: bool = False
    """Start one process for a task on a local backend, whatever the number of its nodes."""
    has_docker_operator: bool = True
    """Accept operators of `type: docker`, which sflow 0.3.1 calls `docker_run`."""
    chain_until: Until = "completed"
    """How far a replica of a sequential task must be before the next one starts."""

    def typed(self, variables: Sequence[schema.Variable], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return resolved variables as later expressions see them."""
        if not self.untyped_is_text:
            return dict(values)
        types = {variable.name: variable.type or "string" for variable in variables}
        return {name: cast(value, types.get(name, "string")) for name, value in values.items()}

    def exported(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return variables as tasks get them in their environment."""
        return {name: str(value) for name, value in values.items()} if self.untyped_is_text else values

    places_in_time: bool = True
    """Place tasks in the order of their dependencies, and give GPUs out again when their owners have ended. Without, in the
    order of the file, once."""

    timeout_is_deadline: bool = True
    """`timeout` of a readiness probe is the time in which a task must be ready, with a default. Without, it limits a check."""


OURS = Compatibility()
STRICT = Compatibility(
    untyped_is_text=True,
    has_task_variables=False,
    has_time_limits=False,
    has_success=False,
    queues_for_room=False,
    retries_late_services=False,
    fault_attempts=0,
    services_may_leave=True,
    local_tasks_have_one_process=True,
    has_docker_operator=False,
    chain_until="available",
)
"""The rules of sflow 0.3.1, known traps included."""
EARLIER = replace(STRICT, places_in_time=False, timeout_is_deadline=False, has_docker_operator=True)
"""The rules of sflow 0.2."""
BY_NAME: dict[Compat, Compatibility] = {"ours": OURS, "0.3.1": STRICT, "0.2": EARLIER}
