"""The phases of a run, the changes between them, and what is known of a run that stops."""

from dataclasses import dataclass, field
from enum import StrEnum

from sflow_ctl.core.model.steps import Step
from sflow_ctl.core.model.stop_order import StopOrder


class RunPhase(StrEnum):
    """Where a run is. How it ends is its outcome, and why is its cause."""

    RUNNING = "running"
    DRAINING = "draining"
    """A task with `on_failure: drain` has failed: nothing new starts, what runs may end."""
    STOPPING = "stopping"
    """Tasks are stopped in waves, and tasks that run at the run's end do so."""
    LEAVING = "leaving"
    """Nothing is live; agents hand over the rest of their logs and exit."""
    FINISHED = "finished"


P = RunPhase
RUN_TRANSITIONS: dict[RunPhase, frozenset[RunPhase]] = {
    P.RUNNING: frozenset({P.DRAINING, P.STOPPING}),
    P.DRAINING: frozenset({P.STOPPING}),
    P.STOPPING: frozenset({P.LEAVING}),
    P.LEAVING: frozenset({P.FINISHED}),
    P.FINISHED: frozenset(),
}
"""Every legal change of phase."""


@dataclass(slots=True)
class Shutdown:
    """How far the end of a run has come. Empty until the run stops."""

    steps: list[Step] = field(default_factory=list)
    """Steps that are not over; the first one has begun."""
    order: StopOrder = field(default_factory=StopOrder)
    is_forced: bool = False
    """What is left is killed, and no task runs at the end any more."""
    is_done: bool = False
    """The run stops because nothing is left to do."""
    leaving: set[int] = field(default_factory=set)
    """Nodes whose agents have been told to leave and have not said goodbye."""
