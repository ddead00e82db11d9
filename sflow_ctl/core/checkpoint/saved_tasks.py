"""A task's state in a checkpoint: in short for one that has completed at its first attempt, as most have, or in full.

Only tasks that have changed since a scheduler was made are in a checkpoint; counters of dependencies are counted anew. Called by
`saved_state.py`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.messages.checks import Probe
from protocol.messages.handover import CheckpointBase, FoundOutput, ResumeKind
from protocol.messages.rank_spec import Success, TaskFile
from protocol.messages.uploads import FileUpload
from sflow_ctl.core.checkpoint.lazy_tasks import LazyTasks, made_of
from sflow_ctl.core.model.attempt import NOT_STARTED, SETTLED, Attempt
from sflow_ctl.core.model.port_leases import SavedLease
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import NOTHING, Address, Task, count
from sflow_ctl.core.policy.dependencies import reached
from sflow_ctl.core.states import TERMINAL, Reason, TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.words import Until

_NONE: frozenset[Until] = frozenset()
_USUAL = reached(TaskState.COMPLETED, reached(TaskState.RUNNING, _NONE))


class SavedTask(Struct, array_like=True, frozen=True):
    """A task that has completed at its first attempt with one rank, and of which nothing else is worth a note."""

    index: int
    word: str
    text: str
    node: int
    gpus: tuple[int, ...]
    gpus_per_node: int
    started_after: float
    started_at: float | None
    exit_code: int | None
    pid: int | None
    values: dict[str, Any] | None = None
    """Of its outputs."""
    problems: tuple[str, ...] | None = None
    are_cut: bool = False
    """Its values are only in its `outputs.json`."""
    found: tuple[FoundOutput, ...] = ()
    """What its agent has found of its outputs."""

    @property
    def has_values(self) -> bool:
        """Return whether anything is known of its outputs."""
        return self.values is not None or self.problems is not None or self.are_cut or bool(self.found)


class FilledIn(Struct, frozen=True, omit_defaults=True):
    """The deferred values of a live attempt: the fields of its plan that have some."""

    argv: tuple[str, ...]
    script: str
    env: dict[str, str]
    probes: tuple[Probe, ...] = ()
    success: Success | None = None
    uploads: tuple[FileUpload, ...] = ()

    @classmethod
    def of(cls, plan: PlannedTask) -> "FilledIn":
        """Return those of a plan that was filled in."""
        return cls(*(getattr(plan, name) for name in cls.__struct_fields__))

    def into(self, plan: PlannedTask) -> PlannedTask:
        """Return the plan with these values."""
        return replace(plan, **{name: getattr(self, name) for name in self.__struct_fields__})


class WholeTask(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All that differs from a task that has not begun."""

    index: int
    state: TaskState
    last_reason: Reason | None = None
    attempt: Attempt | None = None
    """Without its filled-in plan. None if it has not started."""
    is_filled: bool = False
    """The filled-in plan of the attempt is the plan itself, unless `filled` has others."""
    filled: FilledIn | None = None
    files: tuple[TaskFile, ...] = ()
    earlier_places: Mapping[int, list[int]] = NOTHING
    met: frozenset[Until] = frozenset()
    unmet: int | None = None
    """Of a task that runs at the run's end: whether that has come is not known otherwise."""
    is_serving: bool = False
    down_since: float | None = None
    started_after: float = 0.0
    is_delayed: bool = False
    is_reserved: bool = False
    lent: Placement | None = None
    retries_used: int = 0
    restarted_at: tuple[float, ...] = ()
    renewals: int = 0
    moves: int = 0
    infra_used: int = 0
    tries_since: float | None = None
    placeless_since: float | None = None
    shunned: frozenset[int] = frozenset()
    may_run: bool = False
    address: Address | None = None
    follows_by: ResumeKind | None = None
    checkpoint_base: CheckpointBase | None = None
    run_env: Mapping[str, str] = NOTHING
    leases: tuple[SavedLease, ...] = ()
    values: dict[str, Any] | None = None
    problems: tuple[str, ...] | None = None
    are_cut: bool = False
    """Its values are only in its `outputs.json`."""
    found: tuple[FoundOutput, ...] = ()


_REST = (
    "earlier_places", "is_serving", "down_since", "is_delayed", "is_reserved", "lent", "retries_used",
    "restarted_at", "renewals", "moves", "infra_used", "tries_since", "placeless_since", "shunned", "may_run", "address",
    "follows_by",
    "checkpoint_base", "run_env",
)  # fmt: skip
"""Fields of a task that one which has completed as most do has not changed."""
_COPIED = ("state", "last_reason", "met", "started_after", *_REST)
_copied = attrgetter(*_COPIED)
_rest_of_task = attrgetter(*_REST)
_NO_REST: tuple[Any, ...] = (
    NOTHING, False, None, False, False, None, 0, (), 0, 0, 0, None, None, frozenset(), False, None, None, None, NOTHING,
)  # fmt: skip
_OWN = ("number", "place", "node", "gpus", "node_of_rank", "started_at", "exit_code", "pid")
_rest_of_attempt = attrgetter(*(one for one in Attempt.__struct_fields__ if one not in _OWN))
_NO_REST_OF_ATTEMPT = _rest_of_attempt(SETTLED)
_rest_of_reason = attrgetter(*(one for one in Reason.__struct_fields__ if one not in ("word", "text")))
_PLAIN_REASON = _rest_of_reason(Reason("exit"))

Cut = Callable[[dict[str, Any]], bool]
"""Returns whether values are too large for a checkpoint."""


def saved_task(run: Run, task: Task, is_cut: Cut) -> SavedTask | WholeTask:
    """Return a task as a checkpoint has it."""
    name = task.plan.name
    values, problems = run.outputs.get(name), run.output_problems.get(name)
    are_cut = values is not None and is_cut(values)
    if are_cut:
        values = None
    if _is_usual(task) and not task.plan.has_master_port and not task.plan.ports:
        attempt, reason = task.attempt, task.last_reason
        place = attempt.place
        assert place is not None
        assert reason is not None
        usual = SavedTask(
            task.index, reason.word, reason.text, place.nodes[0], place.gpus, place.gpus_per_node,
            task.started_after, attempt.started_at, attempt.exit_code, attempt.pid,
            values, problems, are_cut, tuple(run.found.get(name, {}).values()),
        )  # fmt: skip
        if place == _place(usual.node, usual.gpus, usual.gpus_per_node):
            return usual
    return _whole_task(run, task, values, problems, are_cut)


def _is_usual(task: Task) -> bool:
    """Return whether `SavedTask` says all of a task."""
    attempt, reason = task.attempt, task.last_reason
    return (
        task.state is TaskState.COMPLETED
        and attempt.number == 1
        and task.met == _USUAL
        and task.plan.finally_when is None
        and attempt.place is not None
        and list(attempt.node_of_rank) == [attempt.node] == list(attempt.place.nodes)
        and attempt.gpus == attempt.place.gpus
        and reason is not None
        and bool(_rest_of_attempt(attempt) == _NO_REST_OF_ATTEMPT)
        and bool(_rest_of_task(task) == _NO_REST)
        and bool(_rest_of_reason(reason) == _PLAIN_REASON)
    )


def _whole_task(
    run: Run, task: Task, values: dict[str, Any] | None, problems: tuple[str, ...] | None, are_cut: bool
) -> WholeTask:
    attempt, filled = task.attempt, task.attempt.filled
    has_own = filled is not None and filled is not task.plan
    return WholeTask(
        index=task.index,
        **dict(zip(_COPIED, _copied(task), strict=True)),
        attempt=None if attempt is NOT_STARTED else replace(attempt, filled=None, files=()),
        is_filled=filled is not None,
        filled=FilledIn.of(filled) if has_own and filled is not None else None,
        files=attempt.files,
        unmet=task.unmet if task.plan.finally_when is not None else None,
        leases=tuple(run.leases.saved_of(task.index)),
        values=values,
        problems=problems,
        are_cut=are_cut,
        found=tuple(run.found.get(task.plan.name, {}).values()),
    )


def restore_usual(task: Task, saved: SavedTask, shift_s: float) -> None:
    """Give a task the state of one that has completed; `shift_s` is added to the times of it."""
    task.state, task.last_reason, task.met = TaskState.COMPLETED, _reason(saved.word, saved.text), _USUAL
    task.started_after = saved.started_after + shift_s
    task.attempt = replace(
        SETTLED,
        number=1,
        place=_place(saved.node, saved.gpus, saved.gpus_per_node),
        node=saved.node,
        gpus=saved.gpus,
        node_of_rank=_ranks(saved.node),
        started_at=None if saved.started_at is None else saved.started_at + shift_s,
        exit_code=saved.exit_code,
        pid=saved.pid,
    )


def restore_whole(run: Run, task: Task, saved: WholeTask, shift_s: float) -> None:
    """Give a task its state; `shift_s` is added to the times of it."""
    for name in _COPIED:
        setattr(task, name, getattr(saved, name))
    if saved.unmet is not None:
        task.unmet = saved.unmet
    task.attempt = NOT_STARTED if saved.attempt is None else saved.attempt
    if task.attempt.is_seeking:
        run.seeking.add(task.index)
    if task.attempt.checking or task.attempt.finding_on is not None:
        run.handing.add(task.index)
    run.leases.restore_task(task.index, saved.leases)
    if shift_s:
        _shift(task, shift_s)
    attempt = task.attempt
    if saved.attempt is None:
        return
    if saved.is_filled:
        attempt.filled = task.plan if saved.filled is None else saved.filled.into(task.plan)
        attempt.files = saved.files
    is_over = task.state in TERMINAL and not attempt.uncleared and not attempt.started_at_ns
    if is_over and attempt.number and attempt.use is None and attempt.filled is None:
        attempt.settle()


def _shift(task: Task, shift_s: float) -> None:
    attempt = task.attempt
    task.started_after += shift_s
    task.restarted_at = tuple(at + shift_s for at in task.restarted_at)
    if task.down_since is not None:
        task.down_since += shift_s
    if attempt is NOT_STARTED:
        return
    if attempt.started_at is not None:
        attempt.started_at += shift_s
    if attempt.failure_heard_at is not None:
        attempt.failure_heard_at += shift_s
    for held in attempt.held.values():
        held.since += shift_s


@cache
def _place(node: int, gpus: tuple[int, ...], gpus_per_node: int) -> Placement:
    return Placement(nodes=(node,), gpus=gpus, gpus_per_node=gpus_per_node)


@cache
def _reason(word: str, text: str) -> Reason:
    return Reason(word, text)


@cache
def _ranks(node: int) -> list[int]:
    """Return the list of an ended attempt's only rank, which is not changed any more."""
    return [node]


def encoded(saved: WholeTask) -> bytes:
    """Return a task's state as JSON."""
    return msgspec.json.encode(saved, enc_hook=dict)  # read-only mappings


def count_requirements(tasks: list[Task], changed: Collection[int]) -> None:
    """Count anew the requirements that changed tasks are members of, and what the tasks lack that wait for them."""
    lazy = tasks if isinstance(tasks, LazyTasks) else None
    those_changed = lazy.made() if lazy else (tasks[index] for index in changed)
    requirements = {id(one): one for task in those_changed for one in task.requirements}
    requirements |= {id(one): one for one in (lazy.unmade_requirements() if lazy else ())}
    for one in requirements.values():
        members = made_of(tasks, one.members)
        kept = sum(map(lazy.is_kept, one.members)) if lazy else 0
        is_reached = one.until in _USUAL
        count(one, members)  # of those that are made
        unmade = len(one.members) - len(members)
        one.holding = one.holding + (kept if is_reached else 0)
        one.possible = one.possible + unmade - (0 if is_reached else kept)
    those = list(requirements.values())
    dependants = lazy.count_needs(those) if lazy else [index for one in those for index in one.dependants]
    for index in set(dependants):
        task = tasks[index]
        if task.plan.finally_when is None:
            task.unmet = sum(not one.is_met for one in task.needs)
