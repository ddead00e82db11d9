"""Tables of a run's tasks, as data: headings, rows, and sentences that belong under them.

Layout, colours and the width of a terminal are `cli/terminal/tables.py`'s. Pure, so that `run`, `status`
and `attach` show the same table whether it comes from a controller or from files.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from protocol.messages.telemetry import RankUse
from protocol.text.counted import counted
from protocol.text.sizes import size_text
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.copies.task_list import ByName
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import FAILURES, RunView, TaskRecord
from sflow_ctl.report.words import (
    MANY_TASKS,
    duration_text,
    energy_text,
    exit_text,
    gpus_text,
    node_name,
)

MAX_WAITS = 10

Colour = Literal["red", "green", "yellow"]
_COLOUR_OF: dict[TaskState, Colour] = {
    TaskState.COMPLETED: "green",
    TaskState.READY: "green",
    TaskState.FAILED: "red",
    TaskState.TIMEOUT: "red",
    TaskState.LOST: "red",
    TaskState.CANCELLED: "yellow",
}
_TOTALS_ORDER = (
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.TIMEOUT,
    TaskState.LOST,
    TaskState.CANCELLED,
    TaskState.SKIPPED,
    TaskState.STOPPING,
    TaskState.READY,
    TaskState.RUNNING,
    TaskState.STARTING,
    TaskState.QUEUED,
    TaskState.WAITING,
)
_WITHOUT_SUCCESS = FAILURES | {TaskState.CANCELLED, TaskState.SKIPPED}
_HEADINGS = (
    "TASK",
    "STATE",
    "REASON",
    "ATTEMPTS",
    "EXIT",
    "DURATION",
    "CPU",
    "MEMORY",
    "ENERGY",
    "NODE",
    "GPUS",
)
_OPTIONAL = ("REASON", "CPU", "MEMORY", "ENERGY")
"""Columns that a table has only where a task has something in them."""
_USE_FROM_S = 5.0
"""What tasks have used is worth three columns once one of them has run for so long."""


class Table(Struct, frozen=True):
    """A table without layout. Columns are named by their headings; names are unique."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()
    """Columns of numbers, aligned to the right."""
    shrinks: frozenset[str] = frozenset()
    """Columns that may be cut where a terminal is too narrow: those that hold names."""
    spare: tuple[str, ...] = ()
    """Columns that a terminal leaves out, the first of them first, while the others do not fit."""
    painted: str = ""
    """The column that the colours are for."""
    colours: tuple[Colour | None, ...] = ()
    """One for each row, or none at all."""
    notes: tuple[str, ...] = ()
    """Lines below the table."""


def closing_table(state: RunView) -> Table:
    """Return the tasks of a run that has ended; above `MANY_TASKS` totals, and tasks that did not complete."""
    return _table(state, None, ())


def status_table(state: RunView, now_wall_ns: int) -> Table:
    """Return the tasks of an unfinished run, with the time that they have run and what services wait for."""
    waiting = [record for record in state.tasks.values() if record.waits_for]
    lines = [f"{record.name} is not ready: {record.waits_for}" for record in waiting[:MAX_WAITS]]
    if len(waiting) > MAX_WAITS:
        lines.append(f"... and {len(waiting) - MAX_WAITS} more are not ready")
    said = [f"{record.name}: {record.progress.text}" for record in state.tasks.values() if record.progress]
    if len(said) > MAX_WAITS:
        said[MAX_WAITS:] = [f"... and {len(said) - MAX_WAITS} more say how far they are"]
    uploads = [
        f"{record.name} uploads: {record.uploads}" for record in state.tasks.values() if record.uploads
    ]
    if len(uploads) > MAX_WAITS:
        uploads[MAX_WAITS:] = [f"... and {len(uploads) - MAX_WAITS} more upload"]
    return _table(state, now_wall_ns, [*said, *lines, *uploads, *_sentences(state)])


def ended_table(state: RunView, *, but: str | None = None) -> Table:
    """Return the closing table with the reasons of failures, for a reader who did not see the console.

    Without the reason of the task `but`, which the cause block explains.
    """
    return _table(state, None, _sentences(state, but))


def all_tasks_table(state: RunView, now_wall_ns: int | None) -> Table:
    """Return a table with a row for each task, however many they are; the time of live ones until now, if that is given."""
    return _table(state, now_wall_ns, _sentences(state), is_whole=True)


def _sentences(state: RunView, but: str | None = None) -> list[str]:
    bad = [record for record in state.tasks.values() if record.state in FAILURES and record.name != but]
    lines = [
        f"{record.name} {record.state.value}: {record.reason.text}"
        for record in bad[:MAX_WAITS]
        if record.reason
    ]
    return [*lines, f"... and {len(bad) - MAX_WAITS} more"] if len(bad) > MAX_WAITS else lines


def totals(state: RunView) -> str:
    """Return `38 completed, 1 failed, 1 cancelled`."""
    counts = state.counts()
    parts = [f"{counts[word]} {word.value}" for word in _TOTALS_ORDER if word in counts]
    return ", ".join(parts) if parts else "no tasks"


def _table(
    state: RunView, now_wall_ns: int | None, sentences: Sequence[str], *, is_whole: bool = False
) -> Table:
    records, notes = ([*state.tasks.values()], []) if is_whole else _shown(state)
    planned = ByName(state.plan.tasks)  # of 100,000 tasks 40 have a row
    has_use = any((record.runtime_s or 0.0) >= _USE_FROM_S for record in records)
    rows = [_row(one, state.plan, planned.get(one.name), now_wall_ns, has_use=has_use) for one in records]
    shown = [
        index
        for index, heading in enumerate(_HEADINGS)
        if heading not in _OPTIONAL or any(row[index] for row in rows)
    ]
    return Table(
        headings=tuple(_HEADINGS[index] for index in shown) if rows else (),
        rows=tuple(tuple(row[index] for index in shown) for row in rows),
        right=frozenset({"ATTEMPTS", "DURATION", "CPU", "MEMORY", "ENERGY"}),
        shrinks=frozenset({"TASK", "NODE"}),
        spare=("ENERGY", "MEMORY", "CPU", "GPUS", "NODE", "ATTEMPTS", "EXIT", "DURATION", "REASON"),
        painted="STATE",
        colours=tuple(_COLOUR_OF.get(record.state) for record in records),
        notes=(*notes, *sentences),
    )


def _shown(state: RunView) -> tuple[list[TaskRecord], list[str]]:
    """Return the tasks that get a row, and lines about the others."""
    records = list(state.tasks.values())
    if len(records) <= MANY_TASKS:
        return records, []
    notes: list[str] = []
    notable = [record for record in records if record.state not in (TaskState.COMPLETED, TaskState.WAITING)]
    # Failures first: a run that was stopped has far more cancelled tasks than are of interest.
    notable.sort(key=lambda record: record.state in (TaskState.CANCELLED, TaskState.QUEUED))
    if len(notable) > MANY_TASKS:
        notes.append(f"... and {len(notable) - MANY_TASKS} more that have not completed")
    notes.append(f"{len(state.tasks)} tasks: {totals(state)}")
    return notable[:MANY_TASKS], notes


def shown_tasks(state: RunView) -> set[str]:
    """Return the tasks that get a row: a table needs no others of the plan."""
    return {record.name for record in _shown(state)[0]}


def _row(
    record: TaskRecord, plan: Plan, task: PlannedTask | None, now_wall_ns: int | None, *, has_use: bool
) -> tuple[str, ...]:
    seconds = record.runtime_s
    if seconds is None and record.started_wall_ns is not None and now_wall_ns is not None:
        seconds = max(0.0, (now_wall_ns - record.started_wall_ns) / 1e9)
    return (
        record.name,
        shown_state(record, plan, task)[0],
        "" if is_stopped_service(record, plan, task) else _reason_word(record),
        str(record.attempts) if record.attempts else "-",
        exit_text(record.exit_code, record.signal),
        "-" if seconds is None else duration_text(seconds),
        *_use(record.use, is_wanted=has_use),
        *place(record, plan, 1 if task is None else task.node_count),
    )


def _use(use: RankUse | None, *, is_wanted: bool) -> tuple[str, str, str]:
    """Return CPU time, memory and energy; nothing of a task that ended before it was measured."""
    if not is_wanted or use is None or use.max_rss_bytes is None:
        return "", "", ""
    cpu = "" if use.cpu_s is None else duration_text(use.cpu_s)
    energy = "" if use.energy_j is None else energy_text(use.energy_j)
    return cpu, size_text(use.max_rss_bytes), energy


def shown_state(record: TaskRecord, plan: Plan, task: PlannedTask | None) -> tuple[str, Colour | None]:
    """Return the word for a task's state, and its colour."""
    word = "uploading" if record.uploads else record.state.value
    return "stopped" if is_stopped_service(record, plan, task) else word, _COLOUR_OF.get(record.state)


def place(record: TaskRecord, plan: Plan, nodes: int) -> tuple[str, str]:
    """Return node and GPUs: names and indices on one node, numbers on several."""
    if record.node is None or nodes == 1:
        return node_name(plan, record.node), gpus_text(record.gpus)
    return counted(nodes, "node"), str(len(record.gpus) * nodes) if record.gpus else "-"


def is_stopped_service(record: TaskRecord, plan: Plan, task: PlannedTask | None) -> bool:
    """Return True for a service whose stop was its normal end: nothing needed it any more, or the run stays up until then."""
    word = record.reason.word if record.reason is not None else ""
    if plan.keep_alive and task is not None and task.is_service:
        return record.state is TaskState.CANCELLED and word == "interrupted" and record.attempts > 0
    return record.state is TaskState.COMPLETED and word in ("run_complete", "cell_complete")


def _reason_word(record: TaskRecord) -> str:
    """Return why a task did not complete, or why its last attempt failed while it waits for the next."""
    is_explained = record.state in _WITHOUT_SUCCESS
    if record.reason is None or not (is_explained or record.reason.after):
        return ""
    return record.reason.after or record.reason.word
