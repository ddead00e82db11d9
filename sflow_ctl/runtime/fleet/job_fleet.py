"""Makes the fleet of a run in Slurm jobs: one agent on each node, started by one srun for each job.

Agents on this machine, for tasks of local backends, start with the run.
"""

import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import LaunchError
from protocol.machine.prctl import hide_memory
from protocol.messages.config import AgentConfig, StepConfig
from sflow_ctl.core.events import AgentJoined
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.runtime.fleet.addresses import own_addresses
from sflow_ctl.runtime.fleet.fleet import (
    ORPHANS_END_WITHIN_S,
    Fleet,
    FleetRequest,
    check_gpus,
    common_config,
    local_configs,
)
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.fleet.mixed import JobSteps, MixedLauncher
from sflow_ctl.runtime.fleet.registration import JoinedAgents, wait_for_agents
from sflow_ctl.runtime.fleet.step import StepLauncher
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.record.durable import write_durably
from sflow_ctl.runtime.slurm.allocation import Allocation
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.network import NetworkTransport

JOB_ORPHAN_GRACE_S = 60.0


class _Start(Struct, frozen=True):
    """The start of the agents."""

    request: FleetRequest
    steps: JobSteps
    link: FleetLink
    network: NetworkTransport
    print_line: Callable[[str], object]


def job_fleet(
    request: FleetRequest,
    jobs: Sequence[Allocation],
    local: LocalLauncher | None = None,
    print_line: Callable[[str], object] = lambda _: None,
) -> Fleet:
    """Start an agent on each node of the jobs that the plan uses; return once they have reported.

    `print_line` gets notes about long waits.

    Raises: LaunchError; no agent is left then.
    """
    plan, settings = request.plan, request.settings
    hide_memory()
    keys = RunKeys.for_step(len(plan.nodes), (one.index for one in plan.nodes if one.backend_type != "local"))
    grace_s = settings.orphan_grace_s or JOB_ORPHAN_GRACE_S
    nonce = os.urandom(16).hex()
    here = [node for node in plan.nodes if node.backend_type == "local"]
    with ExitStack() as undo:
        addresses = own_addresses(settings.interface)
        network = NetworkTransport(keys, addresses)
        times = LinkTimes(lost_after_s=settings.lost_after_s, orphan_grace_s=grace_s)
        link = FleetLink(network, request.generation.incarnation, times, time.monotonic())
        undo.callback(link.close)
        clients = ClientPort(keys, addresses)
        undo.callback(clients.close)
        nonce_path = _nonce_path(request)
        common = replace(
            common_config(request, keys, link, nonce, grace_s),
            is_interface_chosen=settings.interface is not None,
        )
        steps = JobSteps(
            [
                (_step_launcher(request, job), _step_config(request, keys, common, nonce_path, job))
                for job in jobs
            ]
        )
        undo.callback(steps.end)
        configs = local_configs(common, here, keys, request.options)
        _check_gpus_here(here, configs, steps.expected.values())
        try:
            _write_nonce(nonce_path, nonce)
            agents = _start_agents(_Start(request, steps, link, network, print_line))
            network.admission.end_enrolment()
        finally:
            nonce_path.unlink(missing_ok=True)
        warnings = check_gpus(plan, agents.inventories(), request.options)
        undo.pop_all()
    missing = frozenset(steps.expected) - agents.joined.keys()
    for node in missing:
        link.abandon(node, "the run began without it")
    return Fleet(
        MixedLauncher(local, steps) if here and local is not None else steps,
        link,
        clients,
        keys,
        nonce,
        configs,
        common,
        early=list(agents.joined.values()),
        addresses=agents.addresses(),
        gpu_bytes=agents.gpu_bytes(),
        missing=missing,
        warnings=warnings,
        fence_s=grace_s + ORPHANS_END_WITHIN_S,
        close=steps.end,
    )


def _nonce_path(request: FleetRequest) -> Path:
    request.settings.output_dir.mkdir(parents=True, exist_ok=True)
    return request.settings.output_dir / f".{request.run_id}.nonce"


def _write_nonce(path: Path, nonce: str) -> None:
    write_durably(path, nonce.encode())  # by a rename: a link that is there is replaced, not followed


def _step_config(
    request: FleetRequest, keys: RunKeys, common: AgentConfig, nonce_path: Path, job: Allocation
) -> StepConfig:
    names = tuple(
        node.name if node.backend_type == "slurm" and node.job_id == job.job_id else ""
        for node in request.plan.nodes
    )
    in_job = msgspec.structs.replace(
        common,
        nonce_path=str(nonce_path),
    )
    return StepConfig(common=in_job, nodes=names, key_seed=keys.seed)


def _step_launcher(request: FleetRequest, allocation: Allocation) -> StepLauncher:
    settings = request.settings
    if not settings.step_gres:
        allocation = replace(allocation, gpus_on_node=None)
    return StepLauncher(
        allocation,
        python=settings.python,
        extra=settings.launch_flags,
        no_kill=request.options.no_kill or request.plan.survives_lost_nodes,
    )


def _start_agents(start: _Start) -> JoinedAgents:
    """Start the steps; start one again without a node whose loss ended it. Raises: LaunchError."""
    expected = awaited = start.steps.expected
    within_s = start.request.settings.join_within_s
    spares = sum(node.is_spare for node in start.request.plan.nodes if node.index in expected)
    least = min(start.request.options.min_nodes or len(expected) - spares, len(expected))
    joined: dict[int, AgentJoined] = {}
    while True:
        start.steps.launch(os.environ, awaited)
        agents = wait_for_agents(
            start.link, start.steps, awaited, within_s, least - len(joined), start.print_line
        )
        joined |= agents.joined
        if not agents.ended:
            return JoinedAgents(joined)
        # The agents of other jobs' steps are up.
        lost = start.steps.of_same_job(agents.ended)
        awaited = {node: expected[node] for node in sorted(joined) if node in lost}
        joined = {node: event for node, event in joined.items() if node not in lost}
        if not awaited:
            return JoinedAgents(joined)
        start.network.admission.restart_enrolment()


def _check_gpus_here(
    here: Sequence[PlannedNode], configs: list[AgentConfig], job_nodes: Collection[str]
) -> None:
    """Refuse to give out the real GPUs of a node twice, locally and as a node of the job. Raises: LaunchError."""
    name = os.environ.get("SLURMD_NODENAME", "")
    for node, config in zip(here, configs, strict=True):
        if node.gpus and not config.simulated_gpus and name and name in job_nodes:
            what = f'backend "{node.backend}" gives out the GPUs of {name}, which is also a node of the job'
            hint = "leave gpus_per_node out of the local backend: its tasks with GPUs belong to the slurm backend"
            raise LaunchError.of("gpus-twice", what, where=f"backends.{node.backend}", hint=hint)
