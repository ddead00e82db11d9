"""Finds out what attempts continue from, before their processes are ordered. Called by `dispatch` for tasks with checkpoints.

The agent of an attempt's first node looks for it; its answer is an event, so a replay makes the same choice. Every rank gets
what was found there. Where an earlier attempt ran on a node with other files, that one's agent is asked first, and the files
that it finds are copied before the attempt starts.
"""

from collections.abc import Iterator, Sequence

import msgspec

from protocol.messages.facts import CheckpointFound
from protocol.messages.handover import (
    CheckpointBase,
    CheckpointChoice,
    ExpectedFile,
    ExpectedInput,
    RecordedFile,
    ResumeKind,
)
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
    attempt.begins_anew = not continues
    attempt.seeking_on, *others = _places_to_look(run, task)
    attempt.seek_next = tuple(others)
    run.seeking.add(task.index)
    _send(run, out, task)


def _places_to_look(run: Run, task: Task) -> list[int]:
    """Return the nodes that are asked, in order: those of earlier attempts with other files than the attempt's own, then that."""
    attempt, base = task.attempt, task.checkpoint_base
    own = attempt.node
    assert own is not None
    is_elsewhere = attempt.begins_anew or (
        base is not None
        and base.ignored_until_ns is None
        and (base.start is None or base.start.startswith("/"))
    )
    if is_elsewhere:
        return [own]  # it begins from something else than an earlier attempt's
    nodes: list[int] = []
    for number in range(attempt.number - 1, 0, -1):
        for before in task.places(number)[:1]:
            place = _seen_from(run, before)
            if place is not None and place not in nodes and not _have_the_same_files(run, own, place):
                nodes.append(place)
            elif place is not None and _have_the_same_files(run, own, place) and own not in nodes:
                nodes.append(own)
    if own not in nodes:
        nodes.append(own)
    if not task.earlier_places:  # they ran before the run was resumed, on nodes that are not known
        nodes += _one_of_each_directory(run, own)
    return nodes


def _one_of_each_directory(run: Run, own: int) -> Iterator[int]:
    """Yield a node for each run directory that nodes see besides that of `own`; agents that are still to come may have any."""
    has_shared = run.nodes[own].shares_run_directory
    for index, node in enumerate(run.nodes):
        if index == own or not (node.is_up or index in run.awaited):
            continue
        is_shared = node.has_joined and node.shares_run_directory
        if not (is_shared and has_shared):
            has_shared = has_shared or is_shared
            yield index


def _seen_from(run: Run, node: int) -> int | None:
    """Return a node that has the files of this one and answers; None if there is none."""
    if run.nodes[node].is_up and not run.nodes[node].is_gone:
        return node
    if not run.nodes[node].shares_run_directory:
        return None
    others = (index for index, one in enumerate(run.nodes) if one.is_up and one.shares_run_directory)
    return next(others, None)


def _have_the_same_files(run: Run, node: int, other: int) -> bool:
    return node == other or all(run.nodes[one].shares_run_directory for one in (node, other))


def _send(run: Run, out: Effects, task: Task) -> None:
    rules, attempt, node = task.plan.checkpoint, task.attempt, task.attempt.seeking_on
    assert rules is not None
    assert node is not None
    if not run.nodes[node].is_up:
        return  # it gets the order when it joins
    if attempt.seek_next and rules.must_exist:
        rules = msgspec.structs.replace(rules, must_exist=False)  # it may be on the next one
    order = FindCheckpoint(
        attempt=task.attempt_id,
        directory=task.plan.environment["SFLOW_TASK_OUTPUT_DIR"],
        rules=rules,
        base=CheckpointBase(rules.start) if attempt.begins_anew else task.checkpoint_base,
        is_for_another=node != attempt.node,
    )
    out.send(node, order)


def give_up_node(run: Run, out: Effects, node: int) -> None:
    """Ask the next node where the files of a lost one were to be looked at."""
    for task in run.seekers():
        attempt = task.attempt
        attempt.seek_next = tuple(one for one in attempt.seek_next if one != node)
        if attempt.seeking_on == node and attempt.seek_next:
            _ask_next(run, out, task)


def _ask_next(run: Run, out: Effects, task: Task) -> None:
    attempt = task.attempt
    attempt.seeking_on, *others = attempt.seek_next
    attempt.seek_next = tuple(others)
    run.changed.add(task.index)
    _send(run, out, task)


def repeat_searches(run: Run, out: Effects, node: int) -> None:
    """Order again what an agent that has a new session has not answered."""
    for task in run.seekers():
        if task.attempt.seeking_on == node:
            _send(run, out, task)


def on_found(run: Run, out: Effects, node: int, message: CheckpointFound, now: float) -> None:
    """Take in what an attempt continues from, and start it, or fail it where that is not clear."""
    task = run.current(message.attempt)
    if task is None:
        return
    attempt, choice = task.attempt, message.choice
    if attempt.seeking_on is None:
        return  # answered already, in an earlier session
    if node != attempt.seeking_on:
        run.foreign_messages += 1
        return
    if attempt.seek_next and not choice.path and not choice.problem and not run.is_ending_for(task):
        _ask_next(run, out, task)
        return
    attempt.seeking_on, attempt.seek_next = None, ()
    run.seeking.discard(task.index)
    run.changed.add(task.index)
    if message.files and node != attempt.node:
        attempt.carried = (_carried(run.node_names[node], message.files),)
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


def _carried(node_name: str, files: Sequence[RecordedFile]) -> ExpectedInput:
    expected = [
        ExpectedFile(path=one.path, bytes=one.bytes, mtime_ns=one.mtime_ns, sha256=one.sha256)
        for one in files
    ]
    return ExpectedInput(
        name="checkpoint", source=f"an earlier attempt, found on {node_name}", files=tuple(expected)
    )


def _record(out: Effects, task: Task, choice: CheckpointChoice) -> None:
    number, base = task.attempt.number, task.checkpoint_base
    out.perform(RecordCheckpoint(task=task.plan.name, attempt=number, choice=choice, base=base))


def _warn(run: Run, out: Effects, task: Task, choice: CheckpointChoice) -> None:
    """Warn of what was passed over, and of an attempt that begins anew because the node is lost where others have saved."""
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
