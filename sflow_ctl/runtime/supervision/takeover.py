"""Takes a run over from a controller that was killed: its ports, agents, keys and journal. Called by `cli/execution.py`.

Agents say hello with their complete state, as after a broken connection, and the rebuilt scheduler compares.
"""

import gc
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from protocol.machine.prctl import hide_memory
from protocol.text.signal_names import signal_name
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.assembly.parts import Record, make_scheduler, publish_connection
from sflow_ctl.runtime.assembly.replanning import Replanning
from sflow_ctl.runtime.fleet.fleet import AgentLauncher, Fleet
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.fleet.local import LocalLauncher
from sflow_ctl.runtime.logs.last_changes import LastChanges
from sflow_ctl.runtime.record.claim import claim_run
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.plan_file import decode_plan
from sflow_ctl.runtime.record.processes import process_start_ticks
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.revising.in_force import PlansInForce, complete, newest_plan
from sflow_ctl.runtime.run.ending import RunEnd
from sflow_ctl.runtime.run.options import FleetOptions, RunOptions, TaskOptions, WorkflowOptions
from sflow_ctl.runtime.run.planning import BackendJob, PlannedRun
from sflow_ctl.runtime.run.resume import prior_run
from sflow_ctl.runtime.run.signals import SignalInbox
from sflow_ctl.runtime.run.workflow import Terminal, carry_out
from sflow_ctl.runtime.supervision.history import taken_over
from sflow_ctl.runtime.supervision.succession import Inherited, inherited
from sflow_ctl.runtime.supervision.supervisor import Death
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.local import LocalTransport
from sflow_ctl.runtime.transport.ports import OpenPort
from sflow_ctl.runtime.transport.transport import Transport


def take_over(death: Death, open_terminal: Callable[[Plan, bool], Terminal]) -> RunEnd:
    """Continue the run of a controller that was killed; return how it ended.

    `open_terminal` makes what shows the run, of its plan and whether it is to be quiet. Raises: FleetError.
    """
    hide_memory()
    gc.disable()  # until the run continues: records of 100,000 tasks are made, and none is garbage
    legacy = inherited(death.descriptors)
    heir = legacy.succession
    directory = RunDirectory(heir.run_directory.parent, heir.run_id)
    claim = claim_run(directory.path, heir.incarnation)
    earlier = prior_run(directory.path, heir.settings.output_dir, claim, is_lazy=True)
    SECRETS.take(heir.secrets)
    plan = decode_plan(heir.plan) if heir.plan else earlier.state.plan
    SECRETS.declare(plan.secrets, os.environ)
    for name in plan.secrets:
        SECRETS.learn(name, plan.variables.get(name))
    plan = newest_plan(directory.path, plan)
    planned = PlannedRun(plan, heir.settings, heir.run_id, "", _jobs(heir.jobs), (), Replanning(), earlier)
    options = _options(heir.is_quiet, heir.log_level)
    facts = replace(
        earlier.facts,
        incarnation=claim.claim.incarnation,
        lineage=heir.lineage,
        pid=os.getpid(),
        pid_started=process_start_ticks(os.getpid()),
    )
    record = Record(
        directory,
        facts,
        state=earlier.state,
        claim=claim,
        lineage=heir.lineage,
        last=LastChanges((), earlier.state.tasks, earlier.facts.started_wall_ns),
    )
    if heir.resumed:
        from sflow_ctl.runtime.supervision.rare import Resumed, decoded

        before = decoded(heir.resumed, Resumed)
        record.prior, record.resumed = before.prior, before.summary
    fleet = _fleet(legacy, facts.incarnation, plan)
    make = partial(make_scheduler, planned, options, fleet, record)
    plans = PlansInForce(directory.path, heir.lineage, plan)
    left = taken_over(directory.path, heir.lineage, make, death, plans)
    plan = left.scheduler.plan
    problem = complete(record, plan)
    fleet.link.known_clocks_ns = {node: event.clock_ahead_ns for node, event in left.known.joined.items()}
    directory.take_over(facts)
    publish_connection(directory, facts, fleet)

    def log_begin(log: RunLog) -> None:
        name = signal_name(death.signal)
        log.warning(f"the controller was killed ({name}): incarnation {facts.incarnation} takes over")
        log.info(left.began_with)
        if problem:
            log.warning(problem)

    planned = replace(planned, plan=plan)
    terminal = open_terminal(plan, heir.is_quiet)
    with _own_jobs(legacy), SignalInbox() as signals:
        return carry_out(planned, options, fleet, terminal, record, left.scheduler, signals, log_begin, left)


def _own_jobs(legacy: Inherited) -> AbstractContextManager[None]:
    """Return what releases the jobs that the run has requested itself, at its end."""
    if not legacy.guards:
        return nullcontext()
    from sflow_ctl.runtime.slurm.own_allocation import adopted_allocations

    return adopted_allocations(dict(zip(legacy.succession.guards, legacy.guards, strict=True)))


def _fleet(legacy: Inherited, incarnation: int, plan: Plan) -> Fleet:
    """Return the fleet of the killed controller: its ports, and the processes that it had started."""
    heir = legacy.succession
    times = replace(heir.times, join_within_s=heir.times.lost_after_s)
    local = LocalLauncher()
    transport = _transport(legacy, local, len(plan.nodes))
    link = FleetLink(transport, incarnation, times, time.monotonic(), takes_over=True)
    client_ports = _ports(heir.client_endpoints, legacy.client_ports)
    clients = ClientPort(heir.keys, (), client_ports)
    local.adopt(list(zip(heir.agents, legacy.agents, strict=True)), heir.configs)
    launcher: AgentLauncher = local
    close: Callable[[], None] = lambda: None  # noqa: E731 - as a fleet of this machine has it
    if heir.jobs:
        from sflow_ctl.runtime.supervision.steps import adopted_steps, distant_steps

        kept = list(zip(heir.steps, legacy.steps, strict=True))
        steps = adopted_steps(heir, kept) if kept else distant_steps(heir, plan)
        launcher, close = steps.with_local(local if heir.agents else None), steps.end
    return Fleet(
        launcher,
        link,
        clients,
        heir.keys,
        heir.nonce,
        list(heir.configs),
        heir.common,
        missing=heir.missing,
        fence_s=heir.fence_s,
        close=close,
    )


def _transport(legacy: Inherited, local: LocalLauncher, nodes: int) -> Transport:
    """Return what the agents connect to, as the killed controller had it."""
    heir = legacy.succession
    if not heir.endpoints:
        through_doors = LocalTransport(nodes, dict(zip(heir.doors, legacy.doors, strict=True)))
        local.open_door = through_doors.open
        return through_doors
    from sflow_ctl.runtime.transport.network import NetworkTransport  # ZeroMQ

    network = NetworkTransport(heir.keys, (), _ports(heir.endpoints, legacy.ports))
    network.admission.admit(heir.node_keys)
    network.admission.end_enrolment()
    return network


def _ports(endpoints: Sequence[str], descriptors: Sequence[int]) -> list[OpenPort]:
    return [OpenPort(endpoint, number) for endpoint, number in zip(endpoints, descriptors, strict=True)]


def _jobs(encoded: bytes) -> tuple[BackendJob, ...]:
    if not encoded:
        return ()
    from sflow_ctl.runtime.supervision.rare import Jobs, decoded

    return tuple(BackendJob(allocation, backend) for allocation, backend in decoded(encoded, Jobs).jobs)


def _options(is_quiet: bool, log_level: str) -> RunOptions:
    """Return the options that matter after a run has begun."""
    nothing = WorkflowOptions(files=(), workspace_dir=Path.cwd())
    return RunOptions(
        workflow=nothing, fleet=FleetOptions(), tasks=TaskOptions(), quiet=is_quiet, log_level=log_level
    )
