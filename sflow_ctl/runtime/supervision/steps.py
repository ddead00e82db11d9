"""Takes over the job steps that a killed controller had started. Only for runs in Slurm jobs; called by `takeover.py`."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from protocol.messages.config import StepConfig
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.fleet.mixed import JobSteps, MixedLauncher
from sflow_ctl.runtime.fleet.step import StepLauncher
from sflow_ctl.runtime.slurm.allocation import Allocation
from sflow_ctl.runtime.supervision.kept import KeptStep
from sflow_ctl.runtime.supervision.rare import Jobs, decoded
from sflow_ctl.runtime.supervision.succession import Succession


class AdoptedSteps(NamedTuple):
    """The launcher of steps that run."""

    steps: JobSteps

    def with_local(self, local: LocalLauncher | None) -> AgentLauncher:
        """Return the launcher of all agents; `local` has those of this machine."""
        return self.steps if local is None else MixedLauncher(local, self.steps)

    def end(self) -> None:
        """End the steps if the run cannot continue."""
        self.steps.end()


def distant_steps(heir: Succession, plan: Plan) -> AdoptedSteps:
    """Return launchers for the jobs of a run whose supervisor has died as well: they sweep lost nodes.

    An srun that lives on this host is watched; one on another is not, and its nodes' silence shows its end.
    """
    launchers = []
    is_here = heir.here[0] == os.uname().nodename
    for allocation, _ in decoded(heir.jobs, Jobs).jobs:
        names = {node.index: node.name for node in plan.nodes if node.job_id == allocation.job_id}
        for step in heir.steps if is_here else ():
            launcher = _launcher(heir, allocation)
            if step.nodes.keys() <= names.keys() and launcher.watch(step):
                launchers.append((launcher, _config(heir, step.nodes)))
                names = {node: name for node, name in names.items() if node not in step.nodes}
        if names:
            launcher = _launcher(heir, allocation)
            launcher.stand_in(names)
            launchers.append((launcher, _config(heir, names)))
    return AdoptedSteps(JobSteps(launchers))


def _launcher(heir: Succession, allocation: Allocation) -> StepLauncher:
    if not heir.settings.step_gres:
        allocation = replace(allocation, gpus_on_node=None)
    return StepLauncher(allocation, python=heir.settings.python, extra=heir.settings.launch_flags)


def _config(heir: Succession, nodes: Mapping[int, str]) -> StepConfig:
    names = tuple(nodes.get(node, "") for node in range(len(heir.keys.agents)))
    return StepConfig(common=heir.common, nodes=names, key_seed=b"")


def adopted_steps(heir: Succession, kept: Sequence[tuple[KeptStep, int]]) -> AdoptedSteps:
    """Return a launcher that has these steps, each with the descriptor of its output."""
    jobs = decoded(heir.jobs, Jobs).jobs
    launchers = []
    for step, said in kept:
        names = set(step.nodes.values())
        allocation = next(
            one for one, _ in jobs if names <= {name for component in one.components for name in component}
        )
        launcher = _launcher(heir, allocation)
        launcher.adopt(step, said)
        launchers.append((launcher, _config(heir, step.nodes)))
    return AdoptedSteps(JobSteps(launchers))
