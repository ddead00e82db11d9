"""The tasks of a run as rows of the full-screen view, and the words that choose among them. Pure.

Called by `cli/tui` at every look: only rows that differ are drawn again.
"""

from collections.abc import Mapping

from msgspec import Struct

from protocol.text.sizes import size_text
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import FAILURES, RunView, TaskRecord
from sflow_ctl.report.tables import Colour, place, shown_state
from sflow_ctl.report.words import duration_text, exit_text

MAX_ROWS = 500
"""More tasks than this are not all listed: a terminal cannot be read that far, and a filter finds the others."""
S = TaskState
_ORDER = {
    state: rank
    for rank, state in enumerate(
        (
            *(S.FAILED, S.TIMEOUT, S.LOST, S.STOPPING, S.STARTING, S.RUNNING, S.READY),
            *(S.QUEUED, S.CANCELLED, S.SKIPPED, S.WAITING, S.COMPLETED),
        )
    )
}
"""Which tasks come first where not all are listed."""


class Usage(Struct, frozen=True):
    """What a task uses now, as far as it is measured."""

    cpu_percent: float | None = None
    """Of one CPU."""
    memory_bytes: int | None = None
    gpu_percent: float | None = None
    """The mean over its GPUs."""
    gpu_memory_bytes: int | None = None


class TaskRow(Struct, frozen=True):
    """One task in the list."""

    name: str
    state: str
    detail: str
    """Why it is not ready, or why it ended; empty if there is nothing to say."""
    attempts: str
    exit: str
    duration: str
    node: str
    gpus: str
    cpu: str
    memory: str
    gpu_use: str
    colour: Colour | None


class ListedTasks(Struct, frozen=True):
    """The rows, and how many tasks fit the filter but have none."""

    rows: tuple[TaskRow, ...]
    left_out: int


def task_list(
    state: RunView, now_wall_ns: int, words: str = "", usage: Mapping[str, Usage] = {}
) -> ListedTasks:
    """Return the tasks that fit the words of a filter, in the order of the plan; the notable ones if they are too many."""
    planned = {task.name: task for task in state.plan.tasks}
    wanted = Filter.of(words)
    records = [record for record in state.tasks.values() if wanted.fits(record, state.plan)]
    left_out = max(0, len(records) - MAX_ROWS)
    if left_out:
        notable = sorted(records, key=lambda record: _ORDER[record.state])[:MAX_ROWS]
        names = {record.name for record in notable}
        records = [record for record in records if record.name in names]
    nothing = Usage()
    rows = (
        _row(record, state.plan, planned.get(record.name), now_wall_ns, usage.get(record.name, nothing))
        for record in records
    )
    return ListedTasks(tuple(rows), left_out)


class Filter(Struct, frozen=True):
    """Words that must all fit: `state:failed`, `node:n1`, or a part of the task's name; `!` before a word turns it round."""

    words: tuple[tuple[bool, str, str], ...] = ()
    """Whether it must fit, what it is about, and the text in small letters."""

    @staticmethod
    def of(text: str) -> "Filter":
        """Read what was typed. A word about something unknown is a part of a name."""
        found = []
        for word in text.lower().split():
            must, rest = not word.startswith("!"), word.removeprefix("!")
            what, colon, value = rest.partition(":")
            found.append((must, what, value) if colon and what in ("state", "node") else (must, "name", rest))
        return Filter(tuple(one for one in found if one[2]))

    def fits(self, record: TaskRecord, plan: Plan) -> bool:
        """Return whether a task is wanted."""
        return all(must is _fits(record, plan, what, value) for must, what, value in self.words)


def _fits(record: TaskRecord, plan: Plan, what: str, value: str) -> bool:
    if what == "state":
        return any(record.state.value.startswith(one) for one in value.split(",") if one)
    if what == "node":
        return record.node is not None and value in plan.nodes[record.node].name.lower()
    return value in record.name.lower()


def _row(record: TaskRecord, plan: Plan, task: PlannedTask | None, now_wall_ns: int, usage: Usage) -> TaskRow:
    shown, colour = shown_state(record, plan, task)
    node, gpus = place(record, plan, 1 if task is None else task.node_count)
    return TaskRow(
        name=record.name,
        state=shown,
        detail=detail_text(record),
        attempts=str(record.attempts) if record.attempts else "-",
        exit=exit_text(record.exit_code, record.signal),
        duration=_duration(record, now_wall_ns),
        node=node,
        gpus=gpus,
        cpu="" if usage.cpu_percent is None else f"{usage.cpu_percent:.0f}%",
        memory="" if usage.memory_bytes is None else size_text(usage.memory_bytes),
        gpu_use="" if usage.gpu_percent is None else f"{usage.gpu_percent:.0f}%",
        colour=colour,
    )


def detail_text(record: TaskRecord) -> str:
    """Return what a task waits for or why it ended, in one line; empty for one that does what it should."""
    if record.waits_for or record.uploads:
        return record.waits_for or f"uploads: {record.uploads}"
    if record.progress is not None:
        return record.progress.text
    reason = record.reason
    if reason is None:
        return ""
    if record.state in FAILURES or record.state in (S.CANCELLED, S.SKIPPED, S.STOPPING) or reason.after:
        return reason.text or reason.word
    return ""


def _duration(record: TaskRecord, now_wall_ns: int) -> str:
    if record.state in TERMINAL or record.state not in LIVE or record.started_wall_ns is None:
        return "-" if record.runtime_s is None else duration_text(record.runtime_s)
    seconds = max(0.0, (now_wall_ns - record.started_wall_ns) / 1e9)
    return (
        f"{seconds:.0f} s" if seconds < 59.5 else duration_text(seconds)
    )  # no decimals that change at each look


def counts_text(state: RunView) -> str:
    """Return `3/7 done, 2 running, 1 ready`, the failures first."""
    counts = state.counts()
    failed = sum(counts.get(one, 0) for one in FAILURES)
    parts = [f"{failed} failed"] if failed else []
    parts.append(f"{counts.get(S.COMPLETED, 0)}/{len(state.tasks)} completed")
    parts += [
        f"{counts[one]} {one.value}"
        for one in (S.STOPPING, S.STARTING, S.RUNNING, S.READY, S.QUEUED)
        if one in counts
    ]
    return ", ".join(parts)
