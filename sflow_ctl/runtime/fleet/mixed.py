"""Combines the launchers of a run: the job steps of its Slurm jobs, and agents on this machine."""

import os
import select
import time
from collections.abc import Mapping, Sequence

from protocol.errors import LaunchError
from protocol.messages.config import AgentConfig, StepConfig
from sflow_ctl.runtime.fleet.local import AgentEnd, LocalLauncher, ReplacementOrder
from sflow_ctl.runtime.fleet.step import StepLauncher
from sflow_ctl.runtime.slurm.replacement import Replacement
from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep


class JobSteps:
    """One job step with agents in each Slurm job of a run. The same interface as `StepLauncher`."""

    def __init__(self, steps: Sequence[tuple[StepLauncher, StepConfig]]) -> None:
        self._steps = list(steps)
        self._replacements: dict[int, Replacement] = {}
        """By node."""
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
        ends = [end for launcher, _ in self._steps for end in launcher.ended()]
        now = time.monotonic()
        for replacement in list(self._replacements.values()):
            is_clear = replacement.is_clear(now)
            if is_clear is not None:
                self._end_replacement(replacement)
                end = self._start_again(replacement) if is_clear else replacement.order.end
                ends += [] if end is None else [end._replace(may_be_replaced=False)]
        return ends

    def replace(self, order: ReplacementOrder) -> bool:
        """Look whether another agent may be started on a node, and start it then, in a step of its own."""
        if order.node in self._replacements:
            return True
        step = next(
            (launcher for launcher, _ in self._steps if launcher.name_of(order.node) is not None), None
        )
        if step is None:
            return False
        name = step.name_of(order.node)
        assert name is not None
        self._replacements[order.node] = one = Replacement(order, step, name, time.monotonic())
        self._epoll.register(one.fileno, select.EPOLLIN)
        return True

    def _start_again(self, replacement: Replacement) -> AgentEnd | None:
        """Start the agent of a node that is clear; return its end if that fails and its last step is over."""
        order, before = replacement.order, replacement.step
        launcher = before.successor()
        config = order.make_config()
        try:
            launcher.launch(config, os.environ, {order.node: replacement.name})
        except LaunchError as error:
            return None if order.end is None else order.end._replace(how=f"{order.end.how}; {error}")
        before.forget(order.node)
        common = next(known for one, known in self._steps if one is before)
        self._steps.append((launcher, common))
        self._epoll.register(launcher.fileno, select.EPOLLIN)
        return None

    def _end_replacement(self, replacement: Replacement) -> None:
        del self._replacements[replacement.order.node]
        self._epoll.unregister(replacement.fileno)
        replacement.close()

    def said(self) -> str:
        """Return the last output of the steps."""
        return "\n".join(filter(None, (launcher.said() for launcher, _ in self._steps)))

    def kill(self, node: int) -> None:
        """Start no other agent there. One that is abandoned is refused when it connects, or ends after its orphan grace."""
        if node in self._replacements:
            self._end_replacement(self._replacements[node])

    def sweep(self, node: int, marker: str) -> None:
        """End what the run has left on a node whose agent and guardian were killed; `ended` reports it."""
        for launcher, _ in self._steps:
            launcher.sweep(node, marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until all steps have ended; end those that are late, and return their nodes."""
        for node in list(self._replacements):
            self.kill(node)
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

    def replace(self, order: ReplacementOrder) -> bool:
        """Start another agent on a node of a job, if nothing of the run is left there; return whether that is tried."""
        return self._local.replace(order) or self._steps.replace(order)

    def sweep(self, node: int, marker: str) -> None:
        """End what is left on a node of a job whose agent and guardian were killed."""
        self._steps.sweep(node, marker)

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait until all have ended; end those that are late, and return their nodes."""
        deadline = time.monotonic() + timeout_s
        late = self._steps.wait_all(timeout_s)
        return late + self._local.wait_all(max(0.0, deadline - time.monotonic()))
