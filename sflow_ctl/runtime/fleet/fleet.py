"""A run's agents and the way to talk to them: on this machine, or on the nodes of a Slurm job."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from protocol.errors import Finding, LaunchError
from protocol.messages.config import AgentConfig, StepConfig
from protocol.messages.node import Inventory
from sflow_ctl.core.events import SchedulerEvent
from sflow_ctl.plan.model import Plan, PlannedNode
from sflow_ctl.runtime.files.settings_files import RunSettings
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink, LinkTimes
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.run.options import RunOptions

if TYPE_CHECKING:
    from sflow_ctl.runtime.slurm.allocation import Allocation

NVIDIA_CONTROL = Path("/dev/nvidiactl")
LOCAL_ORPHAN_GRACE_S, JOB_ORPHAN_GRACE_S = 10.0, 60.0


class Generation(NamedTuple):
    """Which of the run's controllers this is."""

    incarnation: int = 1
    predecessor: str | None = None
    """The marker of what earlier agents have started."""


FIRST = Generation()


class AgentLauncher(Protocol):
    """What the controller asks of whoever started the agents."""

    @property
    def fileno(self) -> int:
        """Readable when an agent has ended."""
        ...

    def start(self, configs: list[AgentConfig]) -> None:
        """Starts what does not run yet."""
        ...

    def ended(self) -> list[tuple[int, str]]:
        """(node, how) of agents that have ended since the last call."""
        ...

    def kill(self, node: int) -> None:
        """Ends an agent that the run goes on without."""
        ...

    def wait_all(self, timeout_s: float) -> list[int]:
        """Waits for the end of all; ends who is late, and returns their nodes."""
        ...


@dataclass(slots=True)
class Fleet:
    """Agents that run or are about to."""

    launcher: AgentLauncher
    link: FleetLink
    keys: RunKeys
    nonce: str
    configs: list[AgentConfig]
    """Of the agents that the launcher starts when the run begins."""
    common: AgentConfig
    """What all agents are told."""
    early: list[SchedulerEvent] = field(default_factory=list)
    """What has been heard of them before the run began."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Of a job's nodes that have called, by name."""
    missing: frozenset[int] = frozenset()
    """Nodes that the run begins without."""
    warnings: tuple[str, ...] = ()
    """What its nodes have, or lack, that a person should know of."""
    close: Callable[[], None] = lambda: None
    """Ends what the launcher would leave behind when the run cannot begin."""


def local_fleet(
    plan: Plan,
    run_id: str,
    options: RunOptions,
    settings: RunSettings,
    launcher: LocalLauncher,
    succession: Generation = FIRST,
) -> Fleet:
    """Agents as processes of this machine, reached over its loopback. They start with the run.

    Where tasks may be given real GPUs the agent is asked first whether it has them. Raises: LaunchError; nothing of it is
    left then.
    """
    keys = RunKeys.make(len(plan.nodes))
    grace_s = settings.orphan_grace_s or LOCAL_ORPHAN_GRACE_S
    times = LinkTimes(lost_after_s=settings.lost_after_s, orphan_grace_s=grace_s)
    link = FleetLink(keys, ("127.0.0.1",), succession.incarnation, times, time.monotonic())
    nonce = os.urandom(16).hex()
    common = _common(run_id, settings, keys, link, nonce, grace_s, succession)
    configs = _local_configs(common, plan.nodes, keys, options)
    fleet = Fleet(launcher, link, keys, nonce, configs, common)
    if plan.nodes[0].gpus and not configs[0].simulated_gpus:
        from sflow_ctl.runtime.fleet.registration import wait_for_agents

        try:
            launcher.start(configs)
            called = wait_for_agents(link, launcher, {0: plan.nodes[0].name}, settings.join_within_s, 1)
            fleet.warnings = _check_gpus(plan, called.inventories(), options)
        except BaseException:
            launcher.end()
            link.close()
            raise
        fleet.early = list(called.joined.values())
    return fleet


def job_fleet(
    plan: Plan,
    run_id: str,
    options: RunOptions,
    settings: RunSettings,
    allocation: "Allocation",
    succession: Generation = FIRST,
    local: LocalLauncher | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Fleet:
    """An agent on each node of the job that the plan has, started by one srun; returns when they have called.

    Agents on this machine, for tasks of local backends, start with the run. `say` tells a person what takes long.
    Raises: LaunchError; nothing of it is left then.
    """
    from sflow_ctl.runtime.fleet.addresses import own_addresses
    from sflow_ctl.runtime.fleet.mixed import MixedLauncher
    from sflow_ctl.runtime.fleet.registration import (
        wait_for_agents,  # a run on this machine needs none of these
    )
    from sflow_ctl.runtime.fleet.step import StepLauncher

    keys = RunKeys.derived(len(plan.nodes))
    grace_s = settings.orphan_grace_s or JOB_ORPHAN_GRACE_S
    times = LinkTimes(lost_after_s=settings.lost_after_s, orphan_grace_s=grace_s)
    addresses = own_addresses(settings.interface)
    link = FleetLink(keys, addresses, succession.incarnation, times, time.monotonic())
    nonce = os.urandom(16).hex()
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    nonce_path = settings.output_dir / f".{run_id}.nonce"
    nonce_path.write_text(nonce)
    common = _common(run_id, settings, keys, link, nonce, grace_s, succession)
    here = [node for node in plan.nodes if node.backend_type == "local"]
    names = tuple("" if node.backend_type == "local" else node.name for node in plan.nodes)
    in_job = _with(common, nonce_path=str(nonce_path), is_interface_chosen=settings.interface is not None)
    step = StepConfig(common=in_job, nodes=names, key_seed=keys.seed)
    if not settings.step_gres:
        allocation = replace(allocation, gpus_on_node=None)
    launcher = StepLauncher(
        allocation, python=settings.python, extra=settings.launch_flags, no_kill=options.no_kill
    )
    expected = {node: name for node, name in enumerate(names) if name}
    least = min(options.min_nodes or len(expected), len(expected))
    try:
        configs = _local_configs(common, here, keys, options)
        _check_gpus_here(here, configs, names)
        awaited = expected
        launcher.launch(step, os.environ, awaited)
        called = wait_for_agents(link, launcher, awaited, settings.join_within_s, least, say)
        while called.step_end is not None:  # a lost node took the others' agents with it: again, without it
            awaited = {node: expected[node] for node in sorted(called.joined)}
            launcher.launch(step, os.environ, awaited)
            called = wait_for_agents(link, launcher, awaited, settings.join_within_s, least, say)
        warnings = _check_gpus(plan, called.inventories(), options)
    except BaseException:
        launcher.end()
        link.close()
        raise
    finally:
        nonce_path.unlink(missing_ok=True)
    missing = frozenset(expected) - called.joined.keys()
    for node in missing:
        link.abandon(node, "the run began without it")
    return Fleet(
        MixedLauncher(local, launcher) if here and local is not None else launcher,
        link,
        keys,
        nonce,
        configs,
        common,
        early=list(called.joined.values()),
        addresses=called.addresses(),
        missing=missing,
        warnings=warnings,
        close=launcher.end,
    )


def _local_configs(
    common: AgentConfig, nodes: Sequence[PlannedNode], keys: RunKeys, options: RunOptions
) -> list[AgentConfig]:
    """One for each of these nodes. GPUs are simulated where this machine has none, or stands for several nodes."""
    uses_real_gpus = len(nodes) == 1 and not options.simulate_gpus and NVIDIA_CONTROL.exists()
    return [
        _with(
            common,
            node=node.index,
            node_name=node.name,
            public_key=keys.agents[node.index].public,
            secret_key=keys.agents[node.index].secret,
            simulated_gpus=0 if uses_real_gpus else node.gpus or 0,
        )
        for node in nodes
    ]


def _common(
    run_id: str,
    settings: RunSettings,
    keys: RunKeys,
    link: FleetLink,
    nonce: str,
    grace_s: float,
    succession: Generation,
) -> AgentConfig:
    """What all agents are told."""
    return AgentConfig(
        run_id=run_id,
        node=-1,
        node_name="",
        control_endpoints=link.control_endpoints,
        log_endpoints=link.log_endpoints,
        controller_key=keys.controller.public,
        public_key="",
        secret_key="",
        marker=f"{run_id}-{os.urandom(4).hex()}",
        predecessor=succession.predecessor,
        run_directory=str(settings.output_dir / run_id),
        nonce=nonce,
        spool_directory=str(settings.log_spool) if settings.log_spool else None,
        orphan_grace_s=grace_s,
    )


def _with(config: AgentConfig, **changes: object) -> AgentConfig:
    import msgspec

    return msgspec.structs.replace(config, **changes)


def _check_gpus(plan: Plan, inventories: dict[int, Inventory], options: RunOptions) -> tuple[str, ...]:
    """Warnings about GPUs. Raises: LaunchError when nodes have fewer than tasks may be given there."""
    from sflow_ctl.plan.gpu_checks import (  # simulated ones need no look
        gpu_warnings,
        gpus_in_use,
        missing_gpus,
    )

    findings = missing_gpus(plan, inventories)
    if findings:
        raise LaunchError(findings)
    used = gpus_in_use(plan, inventories)
    if used and options.require_idle_gpus:
        hint = "end those processes, or run without --require-idle-gpus"
        raise LaunchError([Finding("gpus-in-use", f"node {node}: {use}", node, hint) for node, use in used])
    return (*gpu_warnings(plan, inventories), *(f"node {node}: {use}" for node, use in used))


def _check_gpus_here(here: list[PlannedNode], configs: list[AgentConfig], job_nodes: tuple[str, ...]) -> None:
    """Real GPUs of a node that is also one of the job's must not be given out by both. Raises: LaunchError."""
    name = os.environ.get("SLURMD_NODENAME", "")
    for node, config in zip(here, configs, strict=True):
        if node.gpus and not config.simulated_gpus and name and name in job_nodes:
            what = f'backend "{node.backend}" gives out the GPUs of {name}, which is also a node of the job'
            hint = "leave gpus_per_node out of the local backend: its tasks with GPUs belong to the slurm backend"
            raise LaunchError.of("gpus-twice", what, where=f"backends.{node.backend}", hint=hint)
