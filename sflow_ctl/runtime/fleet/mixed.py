"""Combines the launchers of a run: the job steps of its Slurm jobs, and agents on this machine."""

import select
import time
from collections.abc import Mapping, Sequence

from protocol.messages.config import AgentConfig, StepConfig
from sflow_ctl.runtime.fleet.local import AgentEnd, LocalLauncher
from sflow_ctl.runtime.fleet.step import StepLauncher
from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep


class JobSteps:
    """One job step with agents in each Slurm job of a run. The same interface as `StepLauncher`."""

    def __init__(self, steps: Sequence[tuple[StepLauncher, StepConfig]]) -> None:
        self._steps = tuple(steps)
        self._epoll = select.epoll()
        for launcher, _ in steps:
            self._epoll.register(launcher.fileno, select.EPOLLIN)

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when a step has ended."""
        return self._epoll.fileno()

    @property
    def expected(self) -> dict[int, str]:
        """Return the nodes of all jobs, by number in the run."""
        return {node: name for _, config in self._steps for node, name in enumerate(config.nodes) if name}

    def launch(self, environ: Mapping[str, str], nodes: Mapping[int, str]) -> None:
        """Start the steps on these nodes (number in the run to name). Raises: LaunchError."""
        for launcher, config in self._steps:
            own = {node: name for node, name in nodes.items() if config.nodes[node]}
            if own:
                launcher.launch(config, environ, own)

    def kept(self) -> list[tuple[KeptAgent | KeptStep, int]]:
        """Return the steps that run, for the controller that takes over, with the descriptors of their output."""
        return [kept for launcher, _ in self._steps if (kept := launcher.kept()) is not None]

    def of_same_job(self, nodes: Sequence[int]) -> set[int]:
        """Return all nodes of the jobs that these nodes belong to."""
        return {
            other
            for _, config in self._steps
            if any(config.nodes[node] for node in nodes)
            for other, name in enumerate(config.nodes)
            if name
        }

    def start(self, configs: list[AgentConfig]) -> None:
        """Do nothing: the agents are up before the plan is made."""

    def ended(self) -> list[AgentEnd]:
        """The ends of agents since the last call; never blocks."""
        return [end for launcher, _ in self._steps for end in launcher.ended()]

    def said(self) -> str:
        """Return the last output of the steps."""
        return "\n".join(filter(None, (launcher.said() for launcher, _ in self._steps)))

    def kill(self, node: int) -> None:
        """Do nothing: an abandoned agent is refused when it connects; otherwise it ends after its orphan grace time."""

    def sweep(self, node: int, marker: str) -> None:
        """End what the run has left on a node whose agent and guardian were killed; `ended` reports it."""
        for launcher, _ in self._steps:
            launcher.sweep(node, marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until all steps have ended; end those that are late, and return their nodes."""
        deadline = time.monotonic() + timeout_s
        late: list[int] = []
        for launcher, _ in self._steps:
            late += launcher.wait_all(max(0.0, deadline - time.monotonic()))
        return late

    def end(self) -> None:
        """End all steps with all their processes."""
        for launcher, _ in self._steps:
            launcher.end()


class MixedLauncher:
    """The same interface as each of the two. The steps' agents are up when it is made."""

    def __init__(self, local: LocalLauncher, steps: JobSteps) -> None:
        self._local = local
        self._steps = steps
        self._epoll = select.epoll()
        for launcher in (local, steps):
            self._epoll.register(launcher.fileno, select.EPOLLIN)

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when an agent, or a step, has ended."""
        return self._epoll.fileno()

    def kept(self) -> list[tuple[KeptAgent | KeptStep, int]]:
        """Return the agents of this machine and the steps, for the controller that takes over."""
        return [*self._local.kept(), *self._steps.kept()]

    def start(self, configs: list[AgentConfig]) -> None:
        """Start the local agents. Raises: LaunchError."""
        self._local.start(configs)

    def ended(self) -> list[AgentEnd]:
        """The ends of agents since the last call; never blocks."""
        return self._local.ended() + self._steps.ended()

    def kill(self, node: int) -> None:
        """Kill an agent on this machine; the steps' are refused when they connect."""
        self._local.kill(node)

    def sweep(self, node: int, marker: str) -> None:
        """End what is left on a node of a job whose agent and guardian were killed."""
        self._steps.sweep(node, marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until all have ended; end those that are late, and return their nodes."""
        deadline = time.monotonic() + timeout_s
        late = self._steps.wait_all(timeout_s)
        return late + self._local.wait_all(max(0.0, deadline - time.monotonic()))
