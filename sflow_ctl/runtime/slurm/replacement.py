"""Another agent for a node of a Slurm job whose guardian was killed: Slurm starts no process of a step again.

First a step of its own ends what is left on the node, and finds out whether an agent lives there. `fleet/mixed.py` starts the
agent then, and `run/last_steps.py` decides whether there is to be one.
"""

from sflow_ctl.runtime.fleet.local import ReplacementOrder
from sflow_ctl.runtime.fleet.step import StepLauncher

AGAIN_AFTER_S = 2.0
"""Between two looks at a node on which an agent is still ending its tasks, or which Slurm did not reach."""
WITHIN_S = 15.0
"""Most of what is left of `lost_after` once a node has been silent for long enough to ask."""


class Replacement:
    """One node on its way to another agent."""

    def __init__(self, order: ReplacementOrder, step: StepLauncher, name: str, now: float) -> None:
        """`step` is the one of the node's agent before; `name` is the node's."""
        self.order, self.step, self.name = order, step, name
        self._sweeps = step.sweeps_of_job()
        self._give_up_at = now + WITHIN_S
        self._again_at: float | None = None
        self._begin()

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when the node has been swept."""
        return self._sweeps.fileno

    def is_clear(self, now: float) -> bool | None:
        """Return whether nothing of the run is left on the node; None while that is not known."""
        for _, status in self._sweeps.ended():
            if status == 0:
                return True
            self._again_at = now + AGAIN_AFTER_S
        if now >= self._give_up_at:
            return False
        if self._again_at is not None and now >= self._again_at:
            self._begin()
        return None

    def close(self) -> None:
        """End what still looks at the node."""
        self._sweeps.close()

    def _begin(self) -> None:
        self._again_at = None
        self._sweeps.begin(self.order.node, self.name, self.order.marker)
