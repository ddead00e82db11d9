"""Reads from the journal what a controller needs that takes over: the scheduler rebuilt, and what its shell knew.

Called by `takeover.py`; `run/controller.py` continues with the result.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Hello, RankExited
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.core.events import AgentJoined, JobEndKnown, MessageReceived, OutputsCollected, SchedulerEvent
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import LIVE
from sflow_ctl.core.takeover import Rebuilt, Recorded, rebuild
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.resumed import Takeover
from sflow_ctl.runtime.journal.entry import Begin, Entry
from sflow_ctl.runtime.journal.reader import entries_of, lines_of
from sflow_ctl.runtime.logs.consumers.consumer import FollowedLogs
from sflow_ctl.runtime.record.processes import boot
from sflow_ctl.runtime.resuming.results_there import recorded_values
from sflow_ctl.runtime.supervision.supervisor import Death

_INCARNATION = lazy_pattern(rb'^\{"seq":\d+,"incarnation":(\d+),')


class ShellState(Struct):
    """What the killed controller knew besides the state of its scheduler."""

    hellos: dict[int, Hello] = field(default_factory=dict)
    """The last one of each node."""
    restarted: list[Hello] = field(default_factory=list)
    """Those of agents that took the place of others."""
    clocks_ns: dict[int, int] = field(default_factory=dict)
    """How far the controller's clock is ahead of each node's."""
    exits: dict[RankId, tuple[int, RankExited]] = field(default_factory=dict)
    """Exits that were reported, each with its node."""
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of outputs, by task."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Why values are missing, by task."""
    earlier: list[Takeover] = field(default_factory=list)
    """What was recorded of controllers killed before."""


class TakenOver(Struct):
    """A run in the state in which its controller was killed."""

    death: Death
    known: ShellState
    rebuilt: Rebuilt
    placed: dict[int, list[RankId]]
    """The ranks of all attempts, by node: only its agent has their logs."""
    exits: list[tuple[int, RankExited]]
    """Exits of attempts that are not over: their logs may be incomplete."""
    followed: FollowedLogs
    live: int
    """How many tasks are live."""
    nodes: frozenset[int]
    """The nodes whose agents were connected."""


def taken_over(directory: Path, lineage: int, scheduler: Scheduler, death: Death) -> TakenOver:
    """Rebuild a scheduler from the journal, and return what its controller has left. Raises: OSError."""
    known = ShellState()
    recorded = _recorded(directory, lineage)
    planned = {task.name: task for task in scheduler.plan.tasks}
    rebuilt = rebuild(scheduler, _events(directory, lineage, known, planned), recorded)
    known.earlier = [
        one.takeover for one in _entries(directory, 0, b'"kind":"takeover"') if one.takeover is not None
    ]
    run = scheduler.run
    placed: dict[int, list[RankId]] = {}
    open_attempts: set[AttemptId] = set()
    attempts: dict[str, int] = {}
    for task in run.tasks:
        for number in range(1, task.attempt.number + 1):
            for rank, node in enumerate(task.places(number)):
                placed.setdefault(node, []).append(RankId(task.attempt_id._replace(number=number), rank))
        if task.attempt.number:
            attempts[task.plan.name] = task.attempt.number
        if task.is_live or task.attempt.held:
            open_attempts.add(task.attempt_id)
    return TakenOver(
        death,
        known,
        rebuilt,
        placed,
        [one for rank, one in known.exits.items() if rank.attempt in open_attempts],
        FollowedLogs(
            attempts,
            frozenset(open_attempts),
            frozenset(rank for ranks in placed.values() for rank in ranks),
        ),
        sum(task.state in LIVE for task in run.tasks),
        frozenset(index for index, node in enumerate(run.nodes) if node.is_up),
    )


def _recorded(directory: Path, lineage: int) -> Recorded:
    """Count the changes that are in the journal; the lines need not be decoded for that."""
    transitions = uploads = 0
    for line in lines_of(directory):
        is_transition = b'"kind":"transition"' in line
        if is_transition or b'"kind":"uploads"' in line:
            found = _INCARNATION.match(line)
            counts = found is not None and int(found[1]) >= lineage
            transitions += counts and is_transition
            uploads += counts and not is_transition
    return Recorded(transitions, uploads)


def _events(
    directory: Path, lineage: int, known: ShellState, tasks: Mapping[str, PlannedTask]
) -> Iterator[tuple[float, SchedulerEvent]]:
    shift_s, incarnation = 0.0, -1
    for entry in _entries(directory, lineage, b'"kind":"event"', b'"kind":"begin"'):
        event = entry.event
        if event is None:
            if entry.begin is not None and entry.incarnation != incarnation:
                shift_s, incarnation = clock_shift(entry, entry.begin), entry.incarnation
            continue
        if isinstance(event, JobEndKnown) and event.gone_at is not None:
            event = replace(event, gone_at=event.gone_at + shift_s)
        if entry.is_cut and isinstance(event, OutputsCollected):  # the journal has the beginning of them only
            whole = recorded_values(directory, tasks[event.task]) if event.task in tasks else None
            event = replace(event, values=event.values if whole is None else whole)
        match event:
            case AgentJoined(hello=hello, clock_ahead_ns=clock_ahead_ns):
                known.hellos[hello.node] = hello
                known.restarted += [hello] if hello.follows else []
                known.clocks_ns[hello.node] = clock_ahead_ns
                known.exits.update((one.rank, (hello.node, one)) for one in hello.exited)
            case MessageReceived(node=node, message=RankExited() as exited):
                known.exits[exited.rank] = node, exited
            case OutputsCollected(task=task, values=values, problems=problems):
                known.values[task] = values
                known.problems.pop(task, None)
                if problems:
                    known.problems[task] = list(problems)
            case _:
                pass
        yield entry.at + shift_s, event


def clock_shift(entry: Entry, begin: Begin) -> float:
    """Return the seconds to add to an entry's times for them to be this machine's: those of another boot begin elsewhere."""
    if begin.boot == boot():
        return 0.0
    return (time.monotonic() - time.time_ns() / 1e9) - (entry.at - entry.wall_ns / 1e9)


def _entries(directory: Path, lineage: int, *words: bytes) -> Iterator[Entry]:
    """Yield the lines with one of the words that this controller, or one whose scheduler lives on in it, has written."""
    return (entry for entry in entries_of(directory, words) if entry.incarnation >= lineage)
