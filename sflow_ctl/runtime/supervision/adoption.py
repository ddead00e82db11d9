"""Adopts the agents of a run in Slurm jobs whose controller and supervisor are dead, for `--resume`: its tasks run on.

They wait for their orphan grace, look for a newer controller in the run directory, and say hello to this one, which has the
keys that the last one has left there. Called by `cli/execution.py`; what follows is as in `takeover.py`.
"""

import gc
import math
import os
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from protocol.machine.prctl import hide_memory
from protocol.messages.config import ControllerPlace
from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.core.events import AgentJoined
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.artifacts.contents import with_contents
from sflow_ctl.runtime.assembly.parts import Record, make_scheduler, publish_connection
from sflow_ctl.runtime.fleet.addresses import own_addresses
from sflow_ctl.runtime.fleet.fleet import Fleet
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.logs.last_changes import LastChanges
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.durable import write_durably
from sflow_ctl.runtime.record.plan_file import as_recorded, decode_plan, encode_plan
from sflow_ctl.runtime.record.processes import process_start_ticks
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.reporting.gathering import node_facts
from sflow_ctl.runtime.revising.in_force import PlansInForce, as_in_force
from sflow_ctl.runtime.run.ending import RunEnd
from sflow_ctl.runtime.run.options import FleetOptions, RunOptions, TaskOptions
from sflow_ctl.runtime.run.planning import PlannedRun
from sflow_ctl.runtime.run.resume import PriorRun
from sflow_ctl.runtime.run.signals import SignalInbox
from sflow_ctl.runtime.run.workflow import Terminal, carry_out
from sflow_ctl.runtime.supervision.history import taken_over
from sflow_ctl.runtime.supervision.rare import Jobs, Resumed, decoded
from sflow_ctl.runtime.supervision.steps import distant_steps
from sflow_ctl.runtime.supervision.succession import Succession
from sflow_ctl.runtime.supervision.supervisor import Death
from sflow_ctl.runtime.supervision.testament import left
from sflow_ctl.runtime.transport.client_port import ClientPort
from sflow_ctl.runtime.transport.network import NetworkTransport

ANSWER_WITHIN_S = 12.0
"""An agent looks for another controller after three heartbeats without one, and then every second."""
OTHERS_WITHIN_S = 1.5
"""After the first answer. The run continues without waiting longer: further ones are taken in as they come."""
SHOWN = 5


class NotAdopted(msgspec.Struct, frozen=True):
    """The agents of the run cannot be adopted."""

    reason: str
    """The end of a sentence."""


def adopt(planned: PlannedRun, options: RunOptions, terminal: Terminal) -> RunEnd | NotAdopted:
    """Continue the run with the agents that live; return how it ended, or why it must be started again. Raises: FleetError."""
    hide_memory()
    earlier = planned.earlier
    assert earlier is not None
    assert earlier.claim is not None
    heir = left(earlier.directory)
    if isinstance(heir, str):
        return NotAdopted(heir)
    plan = _plan(planned, heir, earlier)
    problem = _why_not(planned, heir, earlier, plan)
    if problem is not None:
        return NotAdopted(problem)
    wrote_ns = (earlier.directory / layout.JOURNAL).stat().st_mtime_ns
    incarnation = earlier.claim.claim.incarnation
    fleet = _reach(planned, heir, plan, incarnation, earlier, terminal)
    if fleet is None:
        return NotAdopted("none of its agents answers")
    planned = replace(planned, plan=plan, here=heir.here)
    facts = replace(
        earlier.facts,
        incarnation=incarnation,
        lineage=heir.lineage,
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_started=process_start_ticks(os.getpid()),
        resumes=(*earlier.facts.resumes, options.argv),
    )
    directory = RunDirectory(heir.run_directory.parent, heir.run_id)
    record = Record(
        directory,
        facts,
        state=earlier.state,
        claim=earlier.claim,
        lineage=heir.lineage,
        last=LastChanges((), earlier.state.tasks, earlier.facts.started_wall_ns),
    )
    if heir.resumed:
        before = decoded(heir.resumed, Resumed)
        record.prior, record.resumed = before.prior, before.summary
    own = RunOptions(
        workflow=options.workflow,
        fleet=FleetOptions(),
        tasks=TaskOptions(),
        quiet=heir.is_quiet,
        log_level=heir.log_level,
    )
    gc.disable()  # until the run continues: records of 100,000 tasks are made, and none is garbage
    make = partial(make_scheduler, planned, own, fleet, record)
    plans = PlansInForce(directory.path, heir.lineage, plan)
    death = Death(0, wrote_ns, time.monotonic() - (time.time_ns() - wrote_ns) / 1e9, (), ())
    found = taken_over(directory.path, heir.lineage, make, death, plans)
    planned = replace(planned, plan=found.scheduler.plan)
    directory.take_over(facts)
    publish_connection(directory, facts, fleet)

    def log_begin(log: RunLog) -> None:
        log.warning(f"incarnation {incarnation} adopts the agents that its predecessor has left")
        log.info(found.began_with)

    with SignalInbox() as signals:
        return carry_out(planned, own, fleet, terminal, record, found.scheduler, signals, log_begin, found)


def _plan(planned: PlannedRun, heir: Succession, earlier: PriorRun) -> Plan:
    """Return the plan as the last controller made it, with the values of secrets; another one if the workflow is another."""
    addresses = {node.name: node.address for node in earlier.state.plan.nodes}
    gpus = {one.name: one.inventory.smallest_gpu_bytes for one in node_facts(earlier.directory)}
    nodes = tuple(
        replace(node, address=addresses.get(node.name, ""), gpu_bytes=gpus.get(node.name, 0))
        for job in planned.jobs
        for node in job.nodes
    )
    plan = with_contents(planned.replan(planned.jobs[0].allocation.job_id, nodes, heir.here))
    return as_in_force(earlier.directory, earlier.state.plan, plan, as_recorded)


def _why_not(planned: PlannedRun, heir: Succession, earlier: PriorRun, plan: Plan) -> str | None:
    if heir.common.marker != earlier.facts.marker:
        return "its last controller had not got as far as its agents"
    jobs = {job.job_id for job, _ in decoded(heir.jobs, Jobs).jobs}
    if jobs != {job.allocation.job_id for job in planned.jobs}:
        return f"its agents are in job {', '.join(sorted(jobs))}"
    if heir.configs:
        return "some of its agents were on the controller's host, outside of its job, and ended with it"
    new, old = as_recorded(plan), earlier.state.plan
    if b"".join(encode_plan(new)) == b"".join(encode_plan(old)):
        return None
    before = {task.name: task for task in old.tasks}
    again = decode_plan(b"".join(encode_plan(new)))
    changed = [task.name for task in again.tasks if before.pop(task.name, None) != task]
    names = listed([*changed, *before], SHOWN)
    return f"its workflow has changed{f': {names}' if names else ''}"


def _reach(
    planned: PlannedRun,
    heir: Succession,
    plan: Plan,
    incarnation: int,
    earlier: PriorRun,
    terminal: Terminal,
) -> Fleet | None:
    """Return a fleet of the agents that answer; None if there are none."""
    times = replace(heir.times, join_within_s=heir.times.lost_after_s)
    addresses = own_addresses(planned.settings.interface)
    network = NetworkTransport(heir.keys, addresses)
    link = FleetLink(network, incarnation, times, time.monotonic())
    path = earlier.directory / layout.CONTROLLER
    try:
        network.admission.admit(heir.node_keys)
        network.admission.end_enrolment()
        _publish(path, incarnation, network)
        terminal.print_line(
            f"asking the agents on {counted(len(plan.nodes), 'node')} whether they live, for up to {ANSWER_WITHIN_S:g} s"
        )
        expected = {node.index for node in plan.nodes} - heir.missing
        joined = _await_hellos(link, expected)
    except BaseException:
        link.close()
        path.unlink(missing_ok=True)
        raise
    if not joined:
        link.close()
        path.unlink(missing_ok=True)
        return None
    planned.replan.end()
    steps = distant_steps(heir, plan)
    common = replace(
        heir.common, control_endpoints=network.control_endpoints, log_endpoints=network.log_endpoints
    )
    return Fleet(
        steps.steps,
        link,
        ClientPort(heir.keys, addresses),
        heir.keys,
        heir.nonce,
        [],
        common,
        early=list(joined),
        missing=heir.missing,
        fence_s=heir.fence_s,
        close=steps.end,
    )


def _publish(path: Path, incarnation: int, network: NetworkTransport) -> None:
    place = ControllerPlace(
        incarnation=incarnation,
        control_endpoints=network.control_endpoints,
        log_endpoints=network.log_endpoints,
    )
    write_durably(path, msgspec.json.encode(place) + b"\n")


def _await_hellos(link: FleetLink, expected: set[int]) -> Sequence[AgentJoined]:
    """Return the hellos of the agents that answer soon."""
    joined: dict[int, AgentJoined] = {}
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while expected - joined.keys() and (left_s := deadline - time.monotonic()) > 0:
        link.wait(math.ceil(left_s * 1000))
        for event in link.receive(time.monotonic()):
            if isinstance(event, AgentJoined):
                if not joined:
                    deadline = min(deadline, time.monotonic() + OTHERS_WITHIN_S)
                joined[event.hello.node] = event
    return list(joined.values())
