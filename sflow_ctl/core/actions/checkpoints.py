"""Finds out what attempts continue from, before their processes are ordered. Called by `dispatch` for tasks with checkpoints.

The agent of an attempt's first node looks for it; its answer is an event, so a replay makes the same choice. Every rank gets
what was found there.
"""

from protocol.messages.checkpoints import CheckpointBase, CheckpointChoice, ResumeKind
from protocol.messages.facts import CheckpointFound
from protocol.messages.orders import FindCheckpoint
from sflow_ctl.core.actions.dispatch import prepare_if_ready
from sflow_ctl.core.actions.stopping import stop_task, stopped_verdict
from sflow_ctl.core.commands import RecordCheckpoint
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import Reason, TaskState


def begin_search(run: Run, out: Effects, task: Task) -> None:
    """Have the agent of an attempt that has begun look for its checkpoint, if the attempt gets one."""
    rules, attempt = task.plan.checkpoint, task.attempt
    assert rules is not None
    kind: ResumeKind = task.follows_by or "retry"
    task.follows_by = None
    has_word = task.checkpoint_base is not None and task.checkpoint_base.ignored_until_ns is None
    continues = attempt.number > 1 and (kind in rules.after or has_word)
    if not continues and rules.start is None:
        if attempt.number > 1:
            why = f"`resume.after` does not name {kind}"
            _record(out, task, CheckpointChoice(rule="ignored", why=why))
        return
    attempt.is_seeking = True
    attempt.begins_anew = not continues
    run.seeking.add(task.index)
    _send(run, out, task)


def _send(run: Run, out: Effects, task: Task) -> None:
    rules, node = task.plan.checkpoint, task.attempt.node
    assert rules is not None
    assert node is not None
    if not run.nodes[node].is_up:
        return  # it gets the order when it joins
    directory = task.plan.environment["SFLOW_TASK_OUTPUT_DIR"]
    base = CheckpointBase(rules.start) if task.attempt.begins_anew else task.checkpoint_base
    out.send(node, FindCheckpoint(attempt=task.attempt_id, directory=directory, rules=rules, base=base))


def repeat_searches(run: Run, out: Effects, node: int) -> None:
    """Order again what an agent that has a new session has not answered."""
    for task in run.seekers():
        if task.attempt.node == node:
            _send(run, out, task)


def on_found(run: Run, out: Effects, node: int, message: CheckpointFound, now: float) -> None:
    """Take in what an attempt continues from, and start it, or fail it where that is not clear."""
    task = run.current(message.attempt)
    if task is None:
        return
    attempt, choice = task.attempt, message.choice
    if node != attempt.node:
        run.foreign_messages += 1
        return
    if not attempt.is_seeking:
        return  # answered already, in an earlier session
    attempt.is_seeking = False
    run.seeking.discard(task.index)
    run.changed.add(task.index)
    base = task.checkpoint_base
    if base is not None and base.ignored_until_ns is None and not attempt.begins_anew:
        task.checkpoint_base = CheckpointBase(base.start, choice.newest_ns)
    attempt.checkpoint = choice
    _record(out, task, choice)
    if run.is_ending_for(task):
        stop_task(run, out, task, stopped_verdict(run, task), now)
        return
    if choice.problem:
        reason = Reason("input_error", choice.problem, hint=choice.hint)
        stop_task(run, out, task, AttemptVerdict(TaskState.FAILED, reason, is_final=True), now)
        return
    _warn(run, out, task, choice)
    prepare_if_ready(run, out, task)


def _record(out: Effects, task: Task, choice: CheckpointChoice) -> None:
    number, base = task.attempt.number, task.checkpoint_base
    out.perform(RecordCheckpoint(task=task.plan.name, attempt=number, choice=choice, base=base))


def _warn(run: Run, out: Effects, task: Task, choice: CheckpointChoice) -> None:
    """Warn of what was passed over, and of an attempt that begins anew on a node that does not see what others have written."""
    for note in choice.notes:
        out.warn(f"{task.attempt_id}, its checkpoint: {note}")
    number = task.attempt.number
    if choice.path or choice.rule != "none" or number == 1:
        return
    before, here = task.places(number - 1)[:1], task.attempt.node
    if before and here is not None and before[0] != here:
        nodes = (before[0], here)
        if not all(run.nodes[one].shares_run_directory for one in nodes):
            was, now_on = (run.node_names[one] for one in nodes)
            out.warn(f"{task.attempt_id} begins anew: {now_on} does not see what it has written on {was}")
