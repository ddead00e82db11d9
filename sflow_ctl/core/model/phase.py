"""The phases of a run, the changes between them, and the progress of its end."""

from enum import StrEnum

from msgspec import Struct, field

from sflow_ctl.core.model.steps import Step
from sflow_ctl.core.model.stop_order import StopOrder


class RunPhase(StrEnum):
    """The phase of a run. How it ends is its outcome, and why is its cause."""

    RUNNING = "running"
    """Tasks are started as their dependencies are met."""
    DRAINING = "draining"
    """A task with `on_failure: drain` has failed: nothing new starts, running tasks may finish."""
    STOPPING = "stopping"
    """Tasks are stopped in waves, and tasks at the run's end are run."""
    LEAVING = "leaving"
    """No task is live; agents hand over the rest of their logs and exit."""
    FINISHED = "finished"
    """All agents have left."""


P = RunPhase
RUN_TRANSITIONS: dict[RunPhase, frozenset[RunPhase]] = {
    P.RUNNING: frozenset({P.DRAINING, P.STOPPING}),
    P.DRAINING: frozenset({P.STOPPING}),
    P.STOPPING: frozenset({P.LEAVING}),
    P.LEAVING: frozenset({P.FINISHED}),
    P.FINISHED: frozenset(),
}
"""Every legal change of phase."""


class Shutdown(Struct):
    """The progress of the end of a run. Empty until the run stops."""

    steps: list[Step] = field(default_factory=list)
    """Steps that are not over; the first one has begun."""
    order: StopOrder = field(default_factory=StopOrder)
    branch: frozenset[int] = frozenset()
    """Tasks that still start although the run stops or drains: they wait for the failure that ends it."""
    began_at: float = 0.0
    step_began_at: float = 0.0
    """When its current step began, if that runs tasks."""
    is_forced: bool = False
    """What is left is killed, and no task runs at the end any more."""
    are_finals_over: bool = False
    """No task that runs at the end starts any more, nor is one tried again."""
    is_done: bool = False
    """The run stops because all tasks are done."""
    leaving: set[int] = field(default_factory=set)
    """Nodes whose agents were ordered to leave and have not said goodbye."""
