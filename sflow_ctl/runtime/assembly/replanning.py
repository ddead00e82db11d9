"""Plans a run again once its nodes are known, and lets go of its document when that cannot happen any more.

Made by `planning.py`; `workflow.py` and `supervision/adoption.py` call it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sflow_ctl.plan.model import Plan

if TYPE_CHECKING:
    from sflow_ctl.planner.context import JobNode


class Replanning:
    """Plans the document of a run again, once more is known about its nodes."""

    def __init__(
        self, plan: "Callable[[str, tuple[JobNode, ...], tuple[str, str]], Plan] | None" = None
    ) -> None:
        self._plan = plan

    def __call__(self, job_id: str, nodes: "tuple[JobNode, ...]", here: tuple[str, str]) -> Plan:
        """Plan with the id of the run's job, the nodes of all jobs, and this host's name and address as those see it.

        Raises: PlanError.
        """
        assert self._plan is not None
        return self._plan(job_id, nodes, here)

    def end(self) -> None:
        """Free the document: its plan is final. Of 100,000 tasks it takes more memory than the plan."""
        self._plan = None
