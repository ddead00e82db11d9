"""Reads from the journal what a controller needs that takes over: the scheduler rebuilt, and what its shell knew.

Called by `takeover.py`; `run/controller.py` continues with the result.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from protocol.messages.facts import RankExited
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.core.checkpoint.lazy_tasks import LazyTasks, made
from sflow_ctl.core.checkpoint.saved_state import UnusableCheckpointError, restore
from sflow_ctl.core.events import JobEndKnown, OutputsCollected, SchedulerEvent, TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import LIVE
from sflow_ctl.core.takeover import Rebuilt, Recorded, rebuild
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.runtime.journal.checkpoint import CheckpointLine, UsableCheckpoint, read_checkpoint
from sflow_ctl.runtime.journal.checkpointing import ShellNotes
from sflow_ctl.runtime.journal.entry import Begin, Entry
from sflow_ctl.runtime.journal.reader import START, Place, entries_of, lines_of
from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE
from sflow_ctl.runtime.record.processes import boot
from sflow_ctl.runtime.resuming.results_there import recorded_values
from sflow_ctl.runtime.revising.in_force import PlansInForce
from sflow_ctl.runtime.supervision.supervisor import Death

_COUNTED = (b'"kind":"transition"', b'"kind":"uploads"', b'"kind":"checkpoint"')
"""Kinds of lines, in the order of the fields of `Recorded`."""
_INCARNATION = lazy_pattern(rb'^\{"seq":\d+,"incarnation":(\d+),')


class MakeScheduler(Protocol):
    """Makes a scheduler as the killed controller had it when it began."""

    def __call__(self, plan: Plan, *, records: list[Task] | None = None) -> Scheduler:
        """Return that of a plan; with `records` one that a checkpoint gives its state."""
        ...


class TakenOver(Struct):
    """A run in the state in which its controller was killed."""

    death: Death
    scheduler: Scheduler
    known: ShellNotes
    rebuilt: Rebuilt
    exits: list[tuple[int, RankExited]]
    """Exits of attempts that are not over: their logs may be incomplete."""
    followed: FollowedLogs
    live: int
    """How many tasks are live."""
    nodes: frozenset[int]
    """The nodes whose agents were connected."""
    began_with: str
    """What the scheduler was made of, as a sentence for the log."""
    checkpoint_size: int
    """Bytes of the checkpoint that it was made of; 0 without one."""
    checkpoint_revision: int = 1
    """The revision of the plan that this is of."""


def taken_over(
    directory: Path,
    lineage: int,
    make_scheduler: "MakeScheduler",
    death: Death,
    plans: PlansInForce,
) -> TakenOver:
    """Make a scheduler from its checkpoint and the journal, and return what its controller has left.

    `plans` are those that were in force. Raises: OSError.
    """
    began = time.monotonic()
    found = read_checkpoint(directory, lineage)
    plan = plans.of(found.revision) if isinstance(found, UsableCheckpoint) else None
    records = None if plan is None else LazyTasks(plan.tasks)
    scheduler = make_scheduler(plan or plans.first, records=records)
    known, start = ShellNotes(), START
    if isinstance(found, UsableCheckpoint):
        try:
            if plan is None or not found.is_of(scheduler.run.index_of):
                raise UnusableCheckpointError("it is of another plan")
            start = _restored(directory, scheduler, found, known)
        except (UnusableCheckpointError, *UNREADABLE, KeyError, IndexError) as error:
            found = f"{layout.CHECKPOINT} cannot be used: {error}"
            scheduler, known = make_scheduler(plans.first), ShellNotes()
    before = found.records[-1] if isinstance(found, UsableCheckpoint) else None
    recorded = _recorded(directory, lineage, start)
    history = _events(directory, lineage, known, scheduler, before)
    rebuilt = rebuild(scheduler, history, recorded, known.stops)
    run = scheduler.run
    known_tasks = list(made(run.tasks))
    open_attempts = {task.attempt_id for task in known_tasks if task.is_live or task.attempt.held}
    seconds = time.monotonic() - began
    return TakenOver(
        death,
        scheduler,
        known,
        rebuilt,
        [one for rank, one in known.exits.items() if rank.attempt in open_attempts],
        FollowedLogs(_attempts(run), frozenset(open_attempts)),
        sum(task.state in LIVE for task in known_tasks),
        frozenset(index for index, node in enumerate(run.nodes) if node.is_up),
        f"the scheduler continues from its checkpoint at line {start.seq} of the journal ({seconds:.2f} s)"
        if before is not None
        else f"the scheduler was made from the whole journal ({seconds:.2f} s), not from a checkpoint: {found}",
        found.size if isinstance(found, UsableCheckpoint) else 0,
        found.revision if isinstance(found, UsableCheckpoint) else 1,
    )


def _attempts(run: Run) -> dict[str, int]:
    """Return the last attempt of each task that has begun."""
    attempts: dict[str, int] = {}
    if isinstance(run.tasks, LazyTasks):
        names = list(run.index_of)
        attempts = dict.fromkeys([names[index] for index in run.tasks.kept], 1)
    attempts.update((task.plan.name, task.attempt.number) for task in made(run.tasks) if task.attempt.number)
    return attempts


def _restored(directory: Path, scheduler: Scheduler, found: UsableCheckpoint, known: ShellNotes) -> Place:
    """Give a scheduler the state of a checkpoint, and `known` what its shell knew; return where the journal continues.

    Raises: UnusableCheckpointError; msgspec.DecodeError.
    """
    run = scheduler.run
    parts = ((record.part, _shift_of(record)) for record in found.records)
    for index in restore(run, parts, has_secrets=bool(SECRETS.mask)):
        task = run.tasks[index].plan
        values = recorded_values(directory, task)
        if values is None:
            raise UnusableCheckpointError(f"the outputs.json of {task.name} cannot be read")
        run.outputs[task.name] = values
    for record in found.records:
        known.joined |= record.known.joined
        known.restarted += record.known.restarted
    last = found.records[-1]
    known.stops = last.known.stops
    known.exits = {exited.rank: (node, exited) for node, exited in last.known.exits}
    return last.place


def _shift_of(record: CheckpointLine) -> float:
    return 0.0 if record.boot == boot() else _seconds_ahead(record.at, record.wall_ns)


def _recorded(directory: Path, lineage: int, start: Place) -> Recorded:
    """Count the changes that are in the journal from a place on; the lines need not be decoded for that."""
    counts = dict.fromkeys(_COUNTED, 0)
    for line in lines_of(directory, start):
        kind = next((one for one in _COUNTED if one in line), None)
        if kind is not None:
            found = _INCARNATION.match(line)
            counts[kind] += found is not None and int(found[1]) >= lineage
    return Recorded(*counts.values())


def _events(
    directory: Path, lineage: int, known: ShellNotes, scheduler: Scheduler, before: CheckpointLine | None
) -> Iterator[tuple[float, SchedulerEvent]]:
    """Yield the events since a checkpoint, or all of them, with their times on this machine."""
    shift_s, incarnation = 0.0 if before is None else _shift_of(before), -1
    start = START if before is None else before.place
    run = scheduler.run
    for entry in entries_of(directory, (b'"kind":"event"', b'"kind":"begin"'), start):
        if entry.incarnation < lineage:
            continue
        event = entry.event
        if event is None:
            if entry.begin is not None and entry.incarnation != incarnation:
                shift_s, incarnation = clock_shift(entry, entry.begin), entry.incarnation
            continue
        if isinstance(event, JobEndKnown) and event.gone_at is not None:
            event = replace(event, gone_at=event.gone_at + shift_s)
        if entry.is_cut and isinstance(event, OutputsCollected):  # the journal has the beginning of them only
            index = run.index_of.get(event.task)
            whole = None if index is None else recorded_values(directory, run.tasks[index].plan)
            event = replace(event, values=event.values if whole is None else whole)
        if isinstance(event, TextsRendered) and (entry.is_cut or SECRETS.mask):
            event = replace(event, texts=None, items=None, step=None)
        known.note(event)
        yield entry.at + shift_s, event


def clock_shift(entry: Entry, begin: Begin) -> float:
    """Return the seconds to add to an entry's times for them to be this machine's: those of another boot begin elsewhere."""
    if begin.boot == boot():
        return 0.0
    return _seconds_ahead(entry.at, entry.wall_ns)


def _seconds_ahead(at: float, wall_ns: int) -> float:
    """Return the seconds to add to monotonic times of another clock, which was at `at` when the time of day was `wall_ns`."""
    return (time.monotonic() - time.time_ns() / 1e9) - (at - wall_ns / 1e9)
