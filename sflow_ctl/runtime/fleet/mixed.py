"""Combines agents on this machine and those of a job step, for a run whose backends are of both kinds."""

import select
import time

from protocol.messages.config import AgentConfig
from sflow_ctl.runtime.fleet.local import AgentEnd, LocalLauncher
from sflow_ctl.runtime.fleet.step import StepLauncher


class MixedLauncher:
    """The same interface as each of the two. The step's agents are up when it is made."""

    def __init__(self, local: LocalLauncher, step: StepLauncher) -> None:
        self._local = local
        self._step = step
        self._epoll = select.epoll()
        for launcher in (local, step):
            self._epoll.register(launcher.fileno, select.EPOLLIN)

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when an agent, or the step, has ended."""
        return self._epoll.fileno()

    def start(self, configs: list[AgentConfig]) -> None:
        """Start the local agents. Raises: LaunchError."""
        self._local.start(configs)

    def ended(self) -> list[AgentEnd]:
        """The ends of agents since the last call; never blocks."""
        return self._local.ended() + self._step.ended()

    def kill(self, node: int) -> None:
        """Kill an agent on this machine; the step's are refused when they connect."""
        self._local.kill(node)

    def sweep(self, node: int, marker: str) -> None:
        """End what is left on a node of the job whose agent and guardian were killed."""
        self._step.sweep(node, marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until all have ended; end those that are late, and return their nodes."""
        deadline = time.monotonic() + timeout_s
        late = self._step.wait_all(timeout_s)
        return late + self._local.wait_all(max(0.0, deadline - time.monotonic()))
