"""A scheduler's state in parts: each has the tasks that have changed since the one before it, and all that is not of a task.

`Checkpoints` makes them while a run continues: what that costs is that of its changes, not that of its tasks. `restore` gives
them to a scheduler that was made with the same arguments, which then continues with the events after the last of them. Used by
`runtime/journal/checkpoint.py`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct, field

from protocol.ids import RankId
from sflow_ctl.core.cells import SavedCells
from sflow_ctl.core.checkpoint.lazy_tasks import LazyTasks, made, made_of
from sflow_ctl.core.checkpoint.saved_tasks import (
    Cut,
    SavedTask,
    WholeTask,
    count_requirements,
    encoded,
    restore_usual,
    restore_whole,
    saved_task,
)
from sflow_ctl.core.model.phase import RunPhase, Shutdown
from sflow_ctl.core.model.port_leases import Key
from sflow_ctl.core.model.ready_queue import SavedQueue
from sflow_ctl.core.model.resources import ClaimLedger, HostLedger, SavedLedger
from sflow_ctl.core.model.run import Margins, Node, Run
from sflow_ctl.core.model.tally import Tally
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import SavedTimers
from sflow_ctl.core.requests import RequestAnswer
from sflow_ctl.core.states import FirstCause, Outcome
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Placement


class UnusableCheckpointError(Exception):
    """The state cannot be made of a checkpoint; the text says why, as the end of a sentence."""


class SavedRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a run without its tasks. The first fields are those of `Run`."""

    nodes: list[Node]
    awaited: set[int]
    kept: list[tuple[int, Placement]]
    tally: Tally
    shutdown: Shutdown
    hosts: HostLedger
    claims: ClaimLedger
    gone_at: float | None
    margins: Margins
    is_job_ending: bool
    is_ended_by_slurm: bool
    phase: RunPhase
    outcome: Outcome | None
    cause: FirstCause | None
    failure: FirstCause | None
    has_started: bool
    is_time_armed: bool
    reserved_ready: list[int]
    awaiting_places: list[int]
    seeking: set[int]
    rendering: set[int]
    deciding: set[int]
    awaiting_rendering: list[int]
    stuck_at: tuple[int, int] | None
    leaving_processes: set[str]
    survivors: list[str]
    stale_messages: int
    foreign_messages: int
    unsatisfiable: tuple[tuple[int, str], ...] = ()
    """Tasks by index."""
    ledger: SavedLedger
    queue: SavedQueue
    timers: SavedTimers
    windows: list[tuple[int, list[tuple[RankId, int]]]] = field(default_factory=list)
    cells: SavedCells
    waits: list[tuple[int, list[Key]]] = field(default_factory=list)
    """The attempts that lack ports."""
    is_paused: bool = False
    stopped: set[int] = field(default_factory=set)


class SavedPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has changed since the part before, and the rest of the run's state. Raw parts are decoded where they count."""

    usual: tuple[SavedTask, ...] = ()
    whole: tuple[tuple[int, msgspec.Raw], ...] = ()
    """`WholeTask`s, with their indices: most have changed again since."""
    answers: dict[str, RequestAnswer] = field(default_factory=dict)
    """Of operators' requests."""
    run: msgspec.Raw
    """`SavedRun`."""


_FIRST_SPECIAL = SavedRun.__struct_fields__.index("unsatisfiable")
_PLAIN = SavedRun.__struct_fields__[:_FIRST_SPECIAL]
_plain = attrgetter(*_PLAIN)


def _never(_values: dict[str, Any]) -> bool:
    return False


class Checkpoints:
    """Takes the parts of a run's state, one after the other."""

    def __init__(self, run: Run, is_cut: Cut = _never) -> None:
        """`run` is that of a scheduler that was just made, or restored."""
        self._run, self._is_cut = run, is_cut
        self._finals = {task.index for task in made(run.tasks) if task.plan.finally_when is not None}
        self._open: dict[int, bytes] = {}
        """What the last parts have of tasks that were open then: services stay as they are for hours."""

    def take(self) -> SavedPart:
        """Return the part of the state that has changed since the last call."""
        run = self._run
        still_open = set().union(*(node.live for node in run.nodes), *(node.reserved for node in run.nodes))
        usual, whole = [], []
        for index in sorted(run.changed | still_open | self._finals):
            saved = saved_task(run, run.tasks[index], self._is_cut)
            if isinstance(saved, SavedTask):
                usual.append(saved)
                self._open.pop(index, None)
                continue
            content = encoded(saved)
            if self._open.get(index) != content:
                whole.append((index, msgspec.Raw(content)))
            if index in still_open or index in self._finals:
                self._open[index] = content
            else:
                self._open.pop(index, None)
        answers = {
            one: run.requests.answers[one] for one in run.requests.fresh if one in run.requests.answers
        }
        run.changed.clear()
        run.requests.fresh.clear()
        saved_run = msgspec.Raw(msgspec.json.encode(_saved_run(run)))
        return SavedPart(usual=tuple(usual), whole=tuple(whole), answers=answers, run=saved_run)


def _saved_run(run: Run) -> SavedRun:
    return SavedRun(
        **dict(zip(_PLAIN, _plain(run), strict=True)),
        unsatisfiable=tuple((task.index, why) for task, why in run.unsatisfiable),
        ledger=run.ledger.saved(),
        queue=run.queue.saved(),
        timers=run.timers.saved(),
        windows=run.windows.saved(),
        cells=run.cells.saved(),
        waits=run.leases.saved_waits(),
        is_paused=run.requests.is_paused,
        stopped=run.requests.stopped,
    )


def restore(run: Run, parts: Iterable[tuple[SavedPart, float]], *, has_secrets: bool = False) -> list[int]:
    """Give the run of a new scheduler a saved state; return the tasks whose values of outputs are not in it.

    Each part comes with the seconds to be added to its times. With `has_secrets` texts of live attempts are filled in again, as
    a checkpoint has no secrets. Raises: UnusableCheckpointError; msgspec.DecodeError. The scheduler cannot be used then.
    """
    usual: dict[int, _Usual] = {}
    whole: dict[int, tuple[msgspec.Raw, float]] = {}
    last: tuple[msgspec.Raw, float] | None = None
    for part, shift_s in parts:
        usual.update({one.index: (one, shift_s) for one in part.usual})
        for index, raw in part.whole:
            whole[index] = raw, shift_s
            usual.pop(index, None)
        for one in part.usual if whole else ():
            whole.pop(one.index, None)
        for request, answer in part.answers.items():
            run.requests.remember(request, answer)
        last = part.run, shift_s
    if last is None:
        raise UnusableCheckpointError("it is empty")
    cut = _restore_tasks(run, usual, whole)
    _restore_run(run, msgspec.json.decode(last[0], type=SavedRun), last[1])
    count_requirements(run.tasks, (*usual, *whole))
    if has_secrets:
        _fill_in_again(run, whole)
    run.changed.clear()
    run.requests.fresh.clear()
    return cut


def _restore_tasks(
    run: Run, usual: "Mapping[int, _Usual]", whole: Mapping[int, tuple[msgspec.Raw, float]]
) -> list[int]:
    """Give tasks their states; return those whose values of outputs are not in the checkpoint."""
    tasks, decode = run.tasks, _task_decoder().decode
    if isinstance(tasks, LazyTasks):
        tasks.keep(usual, _give)
    else:
        for index, kept in usual.items():
            _give(tasks[index], kept)
    decoded = [(decode(raw), shift_s) for raw, shift_s in whole.values()]
    for one, shift_s in decoded:
        restore_whole(run, tasks[one.index], one, shift_s)
    ended = (one for one, _ in usual.values() if one.has_values)
    names = list(run.index_of)
    saved: list[SavedTask | WholeTask] = [*ended, *(one for one, _ in decoded)]
    return [one.index for one in saved if _restore_values(run, names[one.index], one)]


_Usual = tuple[SavedTask, float]
"""A task's state, and the seconds to be added to its times."""


def _give(task: Task, kept: _Usual) -> None:
    restore_usual(task, *kept)


@cache
def _task_decoder() -> "msgspec.json.Decoder[WholeTask]":
    return msgspec.json.Decoder(WholeTask)


def _restore_values(run: Run, name: str, saved: SavedTask | WholeTask) -> bool:
    """Give the run the values of a task's outputs; return whether they are not in the checkpoint."""
    if saved.values is not None:
        run.outputs[name] = saved.values
    if saved.found:
        run.found[name] = {one.name: one for one in saved.found}
    if saved.problems is not None:
        run.output_problems[name] = saved.problems
    return saved.are_cut


def _restore_run(run: Run, saved: SavedRun, shift_s: float) -> None:
    for name in _PLAIN:
        if name != "nodes":
            setattr(run, name, getattr(saved, name))
    run.nodes[:] = saved.nodes  # others have this list
    run.unsatisfiable = [(run.tasks[index], why) for index, why in saved.unsatisfiable]
    run.ledger.restore(saved.ledger)
    run.queue.restore(saved.queue)
    run.timers.restore(saved.timers, shift_s)
    run.windows.restore(saved.windows)
    run.cells.restore(saved.cells, run.tasks)
    run.leases.restore_waits(saved.waits)
    run.requests.is_paused, run.requests.stopped = saved.is_paused, saved.stopped
    if not shift_s:
        return
    run.shutdown.began_at += shift_s
    run.shutdown.step_began_at += shift_s
    if run.gone_at is not None:
        run.gone_at += shift_s
    for node in run.nodes:
        if node.fenced_until is not None:
            node.fenced_until += shift_s
        node.followed_at = [at + shift_s for at in node.followed_at]


def _fill_in_again(run: Run, changed: Iterable[int]) -> None:
    for task in made_of(run.tasks, changed):
        attempt = task.attempt
        if attempt.filled is None or not (task.plan.deferred or task.plan.files or task.plan.inputs):
            continue
        try:
            attempt.fill_in(task.plan, run.deferred.rendered(task.plan, attempt.ports, attempt.checkpoint))
        except ExpressionError as error:
            raise UnusableCheckpointError(
                f"the values of {task.plan.name} cannot be made again: {error.text}"
            ) from error
