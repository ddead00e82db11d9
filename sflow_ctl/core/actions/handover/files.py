"""Has agents find the outputs of tasks that have ended, and check what others are given before they start.

The outputs of an attempt are looked for on the node of its first rank, its inputs are checked on each of its nodes. Answers are
events, so a replay and a successor know the same. Called by `exit_gate`, `dispatch` and `reactor` for tasks with any of them.
"""

from protocol.messages.facts import InputsChecked, OutputsFound
from protocol.messages.orders import CheckInputs, FindOutputs
from sflow_ctl.core.actions.dispatch import go_on
from sflow_ctl.core.actions.exit_gate import outputs_found
from sflow_ctl.core.actions.stopping import stop_task, stopped_verdict
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import exit_policy
from sflow_ctl.core.states import Reason, TaskState

MISSING, WRONG, INPUT = "output_missing", "output_error", "input_error"


def find_outputs(run: Run, out: Effects, task: Task, now: float) -> None:
    """Order the search for the outputs of an attempt whose last rank has exited with success."""
    attempt = task.attempt
    node = attempt.node
    assert node is not None
    attempt.finding_on = node
    run.handing.add(task.index)
    run.changed.add(task.index)
    if run.nodes[node].is_gone:
        give_up_node(run, out, task, now)
    else:
        _send_search(run, out, task)


def check_inputs(run: Run, out: Effects, task: Task) -> None:
    """Order the check of what an attempt is given; its ranks are ordered when all of its nodes have answered."""
    attempt = task.attempt
    attempt.is_unsent = True
    attempt.checking = set(attempt.node_of_rank)
    run.handing.add(task.index)
    run.changed.add(task.index)
    for node in sorted(attempt.checking):
        _send_check(run, out, task, node)


def repeat_orders(run: Run, out: Effects, node: int) -> None:
    """Order again what an agent that has a new session has not answered."""
    for task in run.handovers():
        if task.attempt.finding_on == node:
            _send_search(run, out, task)
        if node in task.attempt.checking:
            _send_check(run, out, task, node)


def on_answer(run: Run, out: Effects, node: int, message: OutputsFound | InputsChecked, now: float) -> None:
    """Take in what an agent has found, or whether inputs are as they should be."""
    task = run.current(message.attempt)
    if task is None:
        return
    if node not in task.attempt.places:
        run.foreign_messages += 1
    elif isinstance(message, OutputsFound):
        if task.attempt.finding_on == node:
            _take_outputs(run, out, task, message, now)
    elif node in task.attempt.checking:
        _take_check(run, out, task, node, message, now)


def give_up_node(run: Run, out: Effects, task: Task, now: float) -> None:
    """Count outputs as lost whose node was lost before they were found."""
    node = task.attempt.finding_on
    assert node is not None
    text = f"node {run.node_names[node]} was lost before the outputs of the task were found"
    task.attempt.output_problem = Reason("node_lost", text)
    task.attempt.finding_on = None
    outputs_found(run, out, task, now)


def _send_search(run: Run, out: Effects, task: Task) -> None:
    attempt = task.attempt
    node = attempt.finding_on
    assert node is not None
    if not run.nodes[node].is_up:
        return  # it gets the order when it joins
    written_by = attempt.number if attempt.written_by is None else attempt.written_by
    continues = attempt.checkpoint is not None and bool(attempt.checkpoint.path)
    out.send(
        node,
        FindOutputs(
            attempt=task.attempt_id,
            written_by=written_by,
            directory=task.plan.environment["SFLOW_TASK_OUTPUT_DIR"],
            rules=task.plan.found,
            counts_all=continues,
            items=task.positions,
            has_failed=_has_failed(task),
        ),
    )


def _has_failed(task: Task) -> bool:
    """Return whether a process whose outputs are looked for has failed: what there is of them may count all the same."""
    held = [one.message for one in task.attempt.held.values() if one.awaits == "files"]
    return any(exit_policy.is_bad(task, one) for one in held)


def _send_check(run: Run, out: Effects, task: Task, node: int) -> None:
    if run.nodes[node].is_up:
        out.send(node, CheckInputs(attempt=task.attempt_id, inputs=task.attempt.given_files))


def _take_outputs(run: Run, out: Effects, task: Task, message: OutputsFound, now: float) -> None:
    attempt = task.attempt
    attempt.finding_on = None
    run.handing.discard(task.index)
    run.changed.add(task.index)
    has_failed = _has_failed(task)
    if not (has_failed or message.problem):
        _keep(run, out, task, message)
    elif task.positions is not None:
        _keep_some(run, out, task, task.positions, message)
    if message.problem and not has_failed:  # else its exit says why
        word = MISSING if message.is_missing else WRONG
        attempt.output_problem = Reason(word, message.problem, hint=message.hint)
    outputs_found(run, out, task, now)


def _keep_some(run: Run, out: Effects, task: Task, positions: tuple[int, ...], message: OutputsFound) -> None:
    """Keep what some items of a chunk that has failed have; nothing where none has all outputs."""
    there = {one.name for one in message.outputs if not one.is_missing}
    lacking = {index for one in message.outputs for index in one.lacking}
    is_all = all(rule.name in there or not rule.is_required for rule in task.plan.found)
    task.attempt.items_done = len(positions) - len(lacking) if is_all else 0
    if task.attempt.items_done:
        _keep(run, out, task, message)


def _keep(run: Run, out: Effects, task: Task, message: OutputsFound) -> None:
    """Keep what was found, and warn of what is not as a reader of the file would expect."""
    run.found[task.plan.name] = {one.name: one for one in message.outputs}
    for one in message.outputs:
        if one.is_missing:
            instead = "its default is used" if one.is_default else "it is left out"
            out.warn(f"{task.attempt_id}: {one.why}; {instead}")
        for note in one.notes:
            out.warn(f"{task.attempt_id}, its output {one.name}: what {note}")


def _take_check(run: Run, out: Effects, task: Task, node: int, message: InputsChecked, now: float) -> None:
    attempt = task.attempt
    attempt.checking.discard(node)
    run.changed.add(task.index)
    if run.is_ending_for(task):
        stop_task(run, out, task, stopped_verdict(run, task), now)
    elif message.problem:
        where = f" (on {run.node_names[node]})" if len(run.nodes) > 1 else ""
        reason = Reason(INPUT, f"{message.problem}{where}", hint=message.hint)
        stop_task(run, out, task, AttemptVerdict(TaskState.FAILED, reason, is_final=True), now)
    elif not attempt.checking:
        run.handing.discard(task.index)
        go_on(run, out, task)
