"""A run's agents as the controller sees them: their launcher, their link, their facts.

Holds the types and the configuration that all agents share. `local_fleet.py` and `job_fleet.py` make fleets, and
`open_fleet` chooses between them; used by `run/` and by the doctor's inspection.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct, field

from protocol.errors import Finding, LaunchError
from protocol.messages.config import AgentConfig
from protocol.messages.node import Inventory
from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.plan.model import Plan, PlannedNode
from sflow_ctl.plan.words import Policies
from sflow_ctl.runtime.files.settings_files import RunSettings
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import AgentEnd
from sflow_ctl.runtime.run.options import FleetOptions
from sflow_ctl.runtime.transport.client_port import ClientPort

if TYPE_CHECKING:
    from sflow_ctl.runtime.fleet.local import LocalLauncher, ReplacementOrder
    from sflow_ctl.runtime.slurm.allocation import Allocation
    from sflow_ctl.runtime.supervision.kept import KeptAgent, KeptStep

NVIDIA_CONTROL = Path("/dev/nvidiactl")


class Generation(Struct, frozen=True):
    """The number of this controller within the run, and the markers of earlier ones."""

    incarnation: int = 1
    predecessors: tuple[str, ...] = ()
    """The markers of all agents of earlier controllers, and of all processes that they have started."""


FIRST = Generation()


class FleetRequest(Struct, frozen=True):
    """The run that needs agents."""

    plan: Plan
    run_id: str
    options: FleetOptions
    settings: RunSettings
    generation: Generation = FIRST


class AgentLauncher(Protocol):
    """Starts agents, and notices when they end."""

    @property
    def fileno(self) -> int:
        """A descriptor that is readable when an agent has ended."""
        ...

    def start(self, configs: list[AgentConfig]) -> None:
        """Start an agent for each configuration that has none yet."""
        ...

    def kept(self) -> "list[tuple[KeptAgent | KeptStep, int]]":
        """Return the processes that agents are reached by, for a controller that takes over, with descriptors of their output."""
        ...

    def ended(self) -> list[AgentEnd]:
        """Return the ends of agents since the last call."""
        ...

    def kill(self, node: int) -> None:
        """Kill the agent of a node that the run continues without."""
        ...

    def replace(self, order: "ReplacementOrder") -> bool:
        """Start another agent on a node if nothing of the run is left there; return whether that is tried.

        If it fails, `ended` reports the end that the order has.
        """
        ...

    def sweep(self, node: int, marker: str) -> None:
        """End what the run with this marker has left on a lost node, if its agent cannot: `ended` reports it."""
        ...

    def wait_all(self, timeout_s: float) -> list[int]:
        """Wait for all agents to end; kill those that are late, and return their nodes."""
        ...


class Fleet(Struct):
    """Agents that run, or are about to."""

    launcher: AgentLauncher
    link: FleetLink
    clients: ClientPort
    keys: RunKeys
    nonce: str
    configs: list[AgentConfig]
    """Configurations of the agents that the launcher starts when the run begins."""
    common: AgentConfig
    """The part of the configuration that all agents share."""
    early: list[SchedulerEvent] = field(default_factory=list)
    """Events that arrived before the run began."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Addresses of the job's nodes that have reported, by name."""
    gpu_bytes: dict[str, int] = field(default_factory=dict)
    """Memory of the smallest GPU of the job's nodes that have reported, by name; 0 where no driver says it."""
    missing: frozenset[int] = frozenset()
    """Nodes that the run begins without."""
    warnings: tuple[str, ...] = ()
    """About the nodes and their GPUs."""
    fence_s: float = 0.0
    """After how long without a controller no agent has processes any more, whatever became of it."""
    close: Callable[[], None] = lambda: None
    """End all agents if the run cannot begin."""


ORPHANS_END_WITHIN_S = 15.0
"""From the end of its orphan grace: an agent gives its tasks 2 s; where it stands still, its guardian waits 5 s and then
ends them. An engine may take 12 s to remove a container.
"""


def common_config(
    request: FleetRequest, keys: RunKeys, link: FleetLink, nonce: str, grace_s: float
) -> AgentConfig:
    """Return the configuration that all agents of a run share."""
    settings = request.settings
    return AgentConfig(
        run_id=request.run_id,
        node=-1,
        node_name="",
        control_endpoints=link.transport.control_endpoints,
        log_endpoints=link.transport.log_endpoints,
        controller_key=keys.controller.public,
        marker=f"{request.run_id}-{os.urandom(4).hex()}",
        predecessors=request.generation.predecessors,
        has_containers=any(task.container is not None for task in request.plan.tasks),
        run_directory=str(settings.output_dir / request.run_id),
        nonce=nonce,
        spool_directory=str(settings.log_spool) if settings.log_spool else None,
        orphan_grace_s=grace_s,
        restarts=settings.agent_restarts,
        copy_limit_bytes=settings.copy_limit_bytes,
    )


def local_configs(
    common: AgentConfig, nodes: Sequence[PlannedNode], keys: RunKeys, options: FleetOptions
) -> list[AgentConfig]:
    """Return a configuration for each of these nodes of this machine.

    GPUs are simulated where the machine has none, or represents several nodes.
    """
    here = [node for node in nodes if node.engine_host is None]
    uses_real_gpus = len(here) == 1 and not options.simulate_gpus and NVIDIA_CONTROL.exists()
    return [
        msgspec.structs.replace(
            common,
            node=node.index,
            node_name=node.name,
            public_key=keys.of_agent(node.index).public,
            secret_key=keys.of_agent(node.index).secret,
            simulated_gpus=0 if uses_real_gpus and node.engine_host is None else node.gpus or 0,
            docker_host=None if node.engine_host is None else node.engine_host.docker_host,
            context=None if node.engine_host is None else node.engine_host.context,
        )
        for node in nodes
    ]


def check_gpus(plan: Plan, inventories: dict[int, Inventory], options: FleetOptions) -> tuple[str, ...]:
    """Return warnings about GPUs. Raises: LaunchError when a node has fewer than its tasks may be given."""
    from sflow_ctl.plan.gpu_checks import (
        gpu_warnings,
        gpus_in_use,
        missing_gpus,
        small_gpus,
    )  # only for real GPUs

    policies = plan.policies or Policies()
    small = small_gpus(plan, inventories)
    findings = [*missing_gpus(plan, inventories)]
    findings += small if policies.word("gpus-too-small") == "error" else []
    if findings:
        raise LaunchError(findings)
    used, word = gpus_in_use(plan, inventories), policies.word("gpus-in-use")
    if used and (options.require_idle_gpus or word == "error"):
        why = "--require-idle-gpus" if options.require_idle_gpus else "the rule of settings.validation"
        hint = f"end those processes, or run without {why}"
        raise LaunchError([Finding("gpus-in-use", f"node {node}: {use}", node, hint) for node, use in used])
    told = [one.line() for one in small] if policies.word("gpus-too-small") == "warn" else []
    told += [f"node {node}: {use}" for node, use in used] if word == "warn" else []
    return (*gpu_warnings(plan, inventories), *told)


@contextlib.contextmanager
def open_fleet(
    request: FleetRequest,
    jobs: "Sequence[Allocation]",
    launcher: "LocalLauncher",
    print_line: Callable[[str], object] = lambda _: None,
) -> Iterator[Fleet]:
    """Make a fleet, in the Slurm jobs if there are any; end what its launcher would leave behind.

    `launcher` starts the agents of this machine. Raises: LaunchError; nothing of the fleet is left then.
    """
    if not jobs:
        from sflow_ctl.runtime.fleet.local_fleet import local_fleet

        fleet = local_fleet(request, launcher)
    else:
        from sflow_ctl.runtime.fleet.job_fleet import job_fleet

        fleet = job_fleet(request, jobs, launcher, print_line)
    try:
        yield fleet
    finally:
        fleet.close()
