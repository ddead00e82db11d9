"""Reads what the last attempt of a task was started with, from the plan and the journal of its run.

The record has the place and the leased ports of an attempt, and the outputs of the tasks before it. Deferred values are evaluated
again from these, as the controller did. `report/looking/started.py` has the form that is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from protocol.messages.facts import Leased
from sflow_ctl.core.events import MessageReceived
from sflow_ctl.core.model.ranks import rank_environments
from sflow_ctl.core.policy.exit_policy import run_facts
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.assignment import assigned_argv, gpu_environment, node_variables, place_view
from sflow_ctl.plan.deferred import DeferredValues, filled_in
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedNode, PlannedTask
from sflow_ctl.plan.parts.checkpoint_view import checkpoint_variables
from sflow_ctl.plan.task_views import TaskPorts
from sflow_ctl.report.looking.started import StartedOn, StartedWith
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.runtime.handover.listing import found_outputs
from sflow_ctl.runtime.journal.reader import JournalReader
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.reporting.reading import task_values
from sflow_ctl.runtime.reporting.secrecy import mask_of, masked

_LEASED = b'"type":"leased"'
Ports = dict[str, dict[int, dict[str, tuple[int, ...]]]]
"""By task and node."""


def started_with(reader: RunReader, names: Sequence[str]) -> list[StartedWith]:
    """Return what tasks were started with, or will be; the reader has read the journal. Secrets are masked."""
    ports = _leased(reader)
    tasks = {task.name: task for task in reader.plan.tasks}
    mask = mask_of(reader.plan)
    return [masked(_started(reader, tasks[name], ports), mask) for name in names]


def _leased(reader: RunReader) -> Ports:
    """Return the ports of all tasks: the last answers of the agents."""
    ports: Ports = {}
    for entry in JournalReader(reader.directory).entries((_LEASED,)):
        if isinstance(entry.event, MessageReceived) and isinstance(entry.event.message, Leased):
            answer = entry.event.message
            if not answer.problem:
                ports.setdefault(answer.task, {})[entry.event.node] = answer.ports
    return ports


def _started(reader: RunReader, task: PlannedTask, ports: Ports) -> StartedWith:
    record = reader.state.tasks[task.name]
    notes: list[str] = []
    nodes = _nodes(reader, task, record, notes)
    are_known = bool(nodes) and not notes
    own = ports.get(task.name, {}) if record.attempts else {}
    planned = _filled(reader, task, own, ports, notes) if record.attempts else task
    if not record.attempts and (task.deferred or task.ports):
        notes.append("ports, outputs of other tasks and the like are known when it starts")
    argv, env = planned.argv, dict(planned.environment)
    if record.attempts:
        env |= {"SFLOW_ATTEMPT": str(record.attempts), **gpu_environment(record.gpus)}
        if are_known:
            argv = assigned_argv(argv, planned.assigned_arguments, nodes)
            env |= {**node_variables(nodes), **_of_process(reader, planned, nodes, own, notes)}
        env |= _of_moment(reader, planned, record)
    return StartedWith(
        attempt=record.attempts,
        nodes=tuple(StartedOn(node=node.name, ports=own.get(node.index, {})) for node in nodes),
        gpus=record.gpus if record.attempts else task.placement.gpus,
        processes=task.world_size,
        operator=task.operator_kind,
        argv=argv,
        image=None if planned.container is None else planned.container.image,
        cwd=planned.cwd,
        env=env,
        script=planned.script,
        log=str(reader.log_path(task.name)),
        notes=tuple(notes),
    )


def _nodes(reader: RunReader, task: PlannedTask, record: TaskRecord, notes: list[str]) -> list[PlannedNode]:
    """Return the nodes of the last attempt, as far as the record has them: it names the first."""
    planned = () if task.placement.is_flexible else task.placement.nodes
    if not record.attempts or record.node is None or record.node in planned[:1]:
        return [reader.head.nodes[index] for index in planned]
    if task.node_count > 1:
        notes.append(
            "of its nodes the record has only the first, so variables of nodes and positions are as planned"
        )
    return [reader.head.nodes[record.node]]


def _filled(
    reader: RunReader,
    task: PlannedTask,
    own: Mapping[int, Mapping[str, tuple[int, ...]]],
    ports: Ports,
    notes: list[str],
) -> PlannedTask:
    """Return the task with its deferred values, or as it is planned, with a note why."""
    if not (task.deferred or task.files or task.inputs):
        return task

    placements = {one.name: one.placement for one in reader.plan.tasks}

    def first_node(name: str) -> int | None:
        there = reader.state.tasks.get(name)
        return None if there is None else there.node

    def ports_of(name: str) -> TaskPorts | None:
        node = first_node(name)
        known = None if node is None else ports.get(name, {}).get(node)
        return None if node is None or known is None else TaskPorts(reader.head.nodes[node].address, known)

    def place_of(name: str) -> Mapping[str, Any]:
        node, planned = first_node(name), placements.get(name)
        if node is None or planned is None or planned.is_flexible or node in planned.nodes[:1]:
            return {}
        return place_view([reader.head.nodes[node]], reader.state.tasks[name].gpus)

    values = DeferredValues(
        reader.plan,
        task_values(reader),
        ports_of,
        EVALUATOR,
        place_of,
        found=found_outputs(reader),
    )
    choice = dict(reader.state.tasks[task.name].checkpoints).get(reader.state.tasks[task.name].attempts)
    try:
        return filled_in(task, values.rendered(task, own, choice)).plan
    except (ExpressionError, msgspec.MsgspecError) as error:
        text = error.text if isinstance(error, ExpressionError) else str(error)
        notes.append(f"expressions are shown as they are written: {text}")
        return task


def _of_process(
    reader: RunReader,
    task: PlannedTask,
    nodes: Sequence[PlannedNode],
    ports: Mapping[int, Mapping[str, tuple[int, ...]]],
    notes: list[str],
) -> dict[str, str]:
    """Return the variables of the first process's position."""
    try:
        return rank_environments(task, nodes, ports, nodes[0].job_id or reader.head.job_id)[0]
    except LookupError:  # it has ended before it had its ports
        notes.append("it had no ports yet, so variables of its position and ports are missing")
        return {}


def _of_moment(reader: RunReader, task: PlannedTask, record: TaskRecord) -> dict[str, str]:
    """Return the variables that say what had happened before: its checkpoint, the end of the run."""
    env: dict[str, str] = {}
    if task.checkpoint is not None:
        choice = dict(record.checkpoints).get(record.attempts)
        env |= checkpoint_variables(task.checkpoint, choice, task.environment)
    summary = reader.summary() if task.finally_when is not None else None
    if summary is not None:
        env |= run_facts(summary.outcome, summary.cause)
    return env
