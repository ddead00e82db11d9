"""A run in words: tables of its tasks, the first cause of a failure, and `summary.json`. Pure.

Everything here is made from a plan and the transitions of its tasks, so it reads the same from a controller,
a viewer's socket or the files of a run that ended last week.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import TERMINAL, FirstCause, Outcome, Reason, TaskState, Transition, is_again
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan

MANY_TASKS = 40
"""A table of more tasks than this shows totals, and as many of the tasks that did not complete."""
MAX_WAITS = 10
MIN_NAME_WIDTH = 12
LINE_CHARACTERS = 500
"""Of a log line that is quoted."""
_UNFINISHED = (
    TaskState.WAITING,
    TaskState.QUEUED,
    TaskState.STARTING,
    TaskState.RUNNING,
    TaskState.READY,
    TaskState.STOPPING,
)
_RED, _GREEN, _YELLOW, _BOLD = 31, 32, 33, 1
_COLOUR_OF = {
    TaskState.COMPLETED: _GREEN,
    TaskState.READY: _GREEN,
    TaskState.FAILED: _RED,
    TaskState.TIMEOUT: _RED,
    TaskState.LOST: _RED,
    TaskState.CANCELLED: _YELLOW,
}
_OUTCOME_WORDS = {
    Outcome.COMPLETED: "completed",
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "was stopped at its time limit",
    Outcome.INTERRUPTED: "was interrupted",
    Outcome.TERMINATED: "was terminated",
    Outcome.INFRASTRUCTURE: "failed for want of its nodes",
}


@dataclass(slots=True)
class TaskRecord:
    """Where one task is, folded from its transitions."""

    name: str
    state: TaskState = TaskState.WAITING
    attempts: int = 0
    node: int | None = None
    gpus: tuple[int, ...] = ()
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    runtime_s: float | None = None
    """Of the last attempt that has ended."""
    reason: Reason | None = None
    started_wall_ns: int | None = None
    """When the current attempt began to run."""
    waits_for: str = ""
    """What a running service is not ready for, as far as its agent has said."""


@dataclass(slots=True)
class RunView:
    """All tasks of a run. Applying the same transition again changes nothing."""

    plan: Plan
    tasks: dict[str, TaskRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for task in self.plan.tasks:
            self.tasks.setdefault(task.name, TaskRecord(task.name))

    def apply(self, transition: Transition, wall_ns: int | None = None) -> None:
        """Takes in one change of state, made at `wall_ns`."""
        record = self.tasks.setdefault(transition.task, TaskRecord(transition.task))
        record.state = transition.new
        record.waits_for = ""
        record.attempts = transition.attempt
        record.reason = transition.reason
        if transition.node is not None:
            record.node = transition.node
        record.gpus = transition.gpus or record.gpus
        if transition.new is TaskState.STARTING:
            record.exit_code = record.signal = record.runtime_s = record.pid = None
            record.started_wall_ns = wall_ns
        elif transition.new is TaskState.RUNNING:
            record.pid = transition.pid
            record.started_wall_ns = wall_ns
        if transition.new in TERMINAL or transition.is_again:
            record.exit_code, record.signal = transition.exit_code, transition.signal
            record.runtime_s = transition.runtime_s

    def note_waiting(self, task: str, attempt: int, text: str) -> None:
        """Takes in what a service waits for; what is said of an earlier attempt or state is not kept."""
        record = self.tasks.get(task)
        if record is not None and record.attempts == attempt and record.state is TaskState.RUNNING:
            record.waits_for = text

    def apply_all(self, transitions: Iterable[Transition]) -> None:
        """Takes in many changes, in order."""
        for transition in transitions:
            self.apply(transition)

    def counts(self) -> dict[TaskState, int]:
        """Tasks per state, without states that no task is in."""
        result: dict[TaskState, int] = {}
        for record in self.tasks.values():
            result[record.state] = result.get(record.state, 0) + 1
        return result

    def has_ended(self, task: str, attempt: int) -> bool:
        """True when this attempt runs no more."""
        record = self.tasks.get(task)
        if record is None or record.attempts != attempt:
            return record is not None and record.attempts > attempt
        return record.state in TERMINAL or is_again(record.state, record.reason)

    @property
    def is_ended(self) -> bool:
        """True when every task has ended."""
        return all(record.state in TERMINAL for record in self.tasks.values())


# ---------------------------------------------------------------------- tables


def closing_table(state: RunView, width: int, *, colours: bool = False) -> str:
    """The tasks of a run that has ended. Above `MANY_TASKS` totals, and the tasks that did not complete."""
    return _table(state, width, None, colours)


def status_table(state: RunView, width: int, now_wall_ns: int, *, colours: bool = False) -> str:
    """The same of a run that goes on: tasks that run show for how long, services what they wait for."""
    waiting = [record for record in state.tasks.values() if record.waits_for]
    lines = [f"{record.name} is not ready: {record.waits_for}" for record in waiting[:MAX_WAITS]]
    if len(waiting) > MAX_WAITS:
        lines.append(f"... and {len(waiting) - MAX_WAITS} more are not ready")
    return "\n".join([_table(state, width, now_wall_ns, colours), *lines, *_sentences(state)])


def ended_table(state: RunView, width: int, *, but: str | None = None, colours: bool = False) -> str:
    """The tasks of a run that ended before anybody looked: what the console said of failures is said again.

    Not of the task `but`, whose end is told at length.
    """
    return "\n".join([closing_table(state, width, colours=colours), *_sentences(state, but)])


def _sentences(state: RunView, but: str | None = None) -> list[str]:
    """Why tasks ended badly."""
    bad = [record for record in state.tasks.values() if record.state in _BAD and record.name != but]
    lines = [
        f"{record.name} {record.state.value}: {record.reason.text}"
        for record in bad[:MAX_WAITS]
        if record.reason
    ]
    return [*lines, f"... and {len(bad) - MAX_WAITS} more"] if len(bad) > MAX_WAITS else lines


def totals(state: RunView) -> str:
    """`38 completed, 1 failed, 1 cancelled`."""
    counts = state.counts()
    order = (
        TaskState.COMPLETED,
        TaskState.FAILED,
        TaskState.TIMEOUT,
        TaskState.LOST,
        TaskState.CANCELLED,
        TaskState.SKIPPED,
        *reversed(_UNFINISHED),
    )
    parts = [f"{counts[word]} {word.value}" for word in order if word in counts]
    return ", ".join(parts) if parts else "no tasks"


def _table(state: RunView, width: int, now_wall_ns: int | None, colours: bool) -> str:
    records = list(state.tasks.values())
    closing: list[str] = []
    if len(records) > MANY_TASKS:
        notable = [
            record for record in records if record.state not in (TaskState.COMPLETED, TaskState.WAITING)
        ]
        # What went wrong first; a run that was stopped has more cancelled tasks than anybody wants to see.
        notable.sort(key=lambda record: record.state in (TaskState.CANCELLED, TaskState.QUEUED))
        records = notable[:MANY_TASKS]
        if len(notable) > MANY_TASKS:
            closing.append(f"... and {len(notable) - MANY_TASKS} more that have not completed")
        closing.append(f"{len(state.tasks)} tasks: {totals(state)}")
    rows = [_row(record, state.plan, now_wall_ns) for record in records]
    lines = _aligned(rows, width, [record.state for record in records], colours) if rows else []
    return "\n".join([*lines, *closing])


_HEADINGS = ("TASK", "STATE", "REASON", "ATTEMPTS", "EXIT", "DURATION", "NODE", "GPUS")
_REASON, _NODE = 2, 6
_RIGHT = frozenset({3, 5})
_BAD = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST})
"""States with a reason that is worth a column."""


def _row(record: TaskRecord, plan: Plan, now_wall_ns: int | None) -> tuple[str, ...]:
    seconds = record.runtime_s
    if seconds is None and record.started_wall_ns is not None and now_wall_ns is not None:
        seconds = max(0.0, (now_wall_ns - record.started_wall_ns) / 1e9)
    return (
        record.name,
        record.state.value,
        _word(record),
        str(record.attempts) if record.attempts else "-",
        exit_text(record),
        "-" if seconds is None else duration_text(seconds),
        node_name(plan, record.node),
        gpus_text(record.gpus),
    )


def _word(record: TaskRecord) -> str:
    """Why it ended badly, or why its last attempt did while it waits for the next."""
    if record.reason is None or not (record.state in _BAD or record.reason.after):
        return ""
    return record.reason.after or record.reason.word


def _aligned(
    rows: Sequence[tuple[str, ...]], width: int, states: Sequence[TaskState], colours: bool
) -> list[str]:
    all_rows = [_HEADINGS, *rows]
    columns = [
        column for column in range(len(_HEADINGS)) if column != _REASON or any(row[column] for row in rows)
    ]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(_HEADINGS))]
    for column in (0, _NODE):  # names are what may be long
        excess = sum(widths[column] + 2 for column in columns) - 2 - width
        if excess > 0:
            widths[column] = max(min(widths[column], MIN_NAME_WIDTH), widths[column] - excess)
    lines = []
    for number, row in enumerate(all_rows):
        cells = []
        for column in columns:
            cut = _cut(row[column], widths[column])
            cells.append(cut.rjust(widths[column]) if column in _RIGHT else cut.ljust(widths[column]))
        line = "  ".join(cells)[:width].rstrip()
        if colours:
            line = _paint(line, _BOLD) if number == 0 else _paint_state(line, widths[0], states[number - 1])
        lines.append(line)
    return lines


def _paint_state(line: str, name_width: int, state: TaskState) -> str:
    start = name_width + 2
    end = start + len(state.value)
    if state not in _COLOUR_OF or end > len(line):
        return line
    return line[:start] + _paint(line[start:end], _COLOUR_OF[state]) + line[end:]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 2, 1)] + ".."


def _paint(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def exit_text(record: TaskRecord) -> str:
    """`0`, `SIGKILL`, or `-` when no process has ended."""
    if record.signal is not None:
        return signal_name(record.signal)
    return "-" if record.exit_code is None else str(record.exit_code)


def node_name(plan: Plan, node: int | None) -> str:
    """The node's name, or `-`."""
    return plan.nodes[node].name if node is not None and 0 <= node < len(plan.nodes) else "-"


def gpus_text(gpus: Sequence[int]) -> str:
    """`0-3,6` for 0, 1, 2, 3 and 6; `-` for none."""
    parts: list[str] = []
    ordered = sorted(gpus)
    start = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
            first, last = ordered[start], ordered[at - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = at
    return ",".join(parts) or "-"


def duration_text(seconds: float) -> str:
    """`0.42 s`, `59.9 s`, `12:34`, `1:02:03`."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


# ---------------------------------------------------------------------- how it ended


def outcome_text(outcome: Outcome) -> str:
    """The verb of the sentence "the run ..."."""
    return _OUTCOME_WORDS[outcome]


def first_cause(
    state: RunView,
    outcome: Outcome,
    cause: FirstCause,
    *,
    run: str,
    log: str | None = None,
    log_tail: Sequence[str] = (),
    colours: bool = False,
) -> str:
    """What ended the run, in a block: task, node, exit, last lines of its log (20), path, next command.

    `run` is what to type to name this run; `log` is the path as the reader can open it.
    """
    text = f"the run {outcome_text(outcome)}: {cause.text}"
    lines = [_paint(text, _RED) if colours else text]
    record = state.tasks.get(cause.task) if cause.task is not None else None
    if record is not None:
        retries = next((task.retries.count for task in state.plan.tasks if task.name == record.name), 0)
        attempt = cause.attempt or record.attempts
        tries = f", attempt {attempt} of {retries + 1}" if retries else ""
        lines.append(f"  task:  {record.name}{tries}")
    if cause.node is not None:
        lines.append(f"  node:  {node_name(state.plan, cause.node)}")
    if record is not None and exit_text(record) != "-":
        lines.append(f"  exit:  {exit_text(record)}")
    if cause.reason is not None:
        lines += _why(cause.reason, cause.text)
    if log is not None:
        lines.append(f"  log:   {log}" + ("" if log_tail else " (empty)"))
        lines.extend(f"    | {line[:LINE_CHARACTERS]}" for line in log_tail[-20:])
    following = f"logs --run {run} {record.name}" if record is not None else f"status {run}"
    lines.append(f"  next:  sflow-ctl {following}")
    return "\n".join(lines)


def _why(reason: Reason, said: str) -> list[str]:
    lines = [f"  why:   {reason.word}"]
    if reason.text and reason.text not in said:
        lines[0] += f": {reason.text}"
    if reason.line:
        number = f"{reason.line_number}: " if reason.line_number is not None else ""
        lines.append(f"  line:  {number}{reason.line[:LINE_CHARACTERS]}")
    if reason.hint:
        lines.append(f"  hint:  {reason.hint}")
    return lines


# ---------------------------------------------------------------------- summary.json


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How one task ended. `exit_code` and `signal` are those of its last attempt."""

    name: str
    state: TaskState
    attempts: int
    exit_code: int | None
    signal: str | None
    runtime_s: float | None
    node: str | None
    gpus: tuple[int, ...]
    reason: str
    """The sentence."""
    reason_word: str
    """One of `protocol.diagnosis.reasons` for a task that has ended, or of a signature of the workflow's own."""
    hint: str = ""
    line: str = ""
    """Of the log, which says so."""
    waits_for: str = ""
    """What a service that runs is not ready for."""
    log: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`summary.json`: how a run ended. `log` paths are relative to the run directory."""

    version: int = 1
    run_id: str
    workflow: str
    outcome: Outcome
    exit_status: int
    started_wall_ns: int
    ended_wall_ns: int
    duration_s: float
    counts: dict[str, int]
    cause: FirstCause | None
    tolerated: tuple[str, ...] = ()
    """Tasks of a run that completed whose failure did not count."""
    survivors: tuple[str, ...]
    """Processes that could not be ended, as "pid name"."""
    refused: dict[str, int]
    """What peers sent and was refused or dropped, and connections denied, by kind."""
    tasks: tuple[TaskSummary, ...]


def summary(
    state: RunView,
    outcome: Outcome,
    cause: FirstCause | None,
    *,
    run_id: str,
    exit_status: int,
    started_wall_ns: int,
    ended_wall_ns: int,
    survivors: Sequence[str] = (),
    refused: dict[str, int] | None = None,
) -> Summary:
    """The summary of a run that has ended."""
    return Summary(
        run_id=run_id,
        workflow=state.plan.workflow,
        outcome=outcome,
        exit_status=exit_status,
        started_wall_ns=started_wall_ns,
        ended_wall_ns=ended_wall_ns,
        duration_s=round((ended_wall_ns - started_wall_ns) / 1e9, 3),
        counts={word.value: count for word, count in state.counts().items()},
        cause=cause,
        tolerated=_failed(state) if outcome is Outcome.COMPLETED else (),
        survivors=tuple(survivors),
        refused=refused or {},
        tasks=task_summaries(state),
    )


def _failed(state: RunView) -> tuple[str, ...]:
    bad = (TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST)
    return tuple(record.name for record in state.tasks.values() if record.state in bad)


def task_summaries(state: RunView) -> tuple[TaskSummary, ...]:
    """Every task as it is now, for programs."""
    return tuple(_task_summary(record, state.plan) for record in state.tasks.values())


def _task_summary(record: TaskRecord, plan: Plan) -> TaskSummary:
    return TaskSummary(
        name=record.name,
        state=record.state,
        attempts=record.attempts,
        exit_code=record.exit_code,
        signal=None if record.signal is None else signal_name(record.signal),
        runtime_s=None if record.runtime_s is None else round(record.runtime_s, 6),
        node=None if record.node is None else node_name(plan, record.node),
        gpus=record.gpus,
        reason=record.reason.text if record.reason is not None else "",
        reason_word=record.reason.word if record.reason is not None else "",
        hint=record.reason.hint if record.reason is not None else "",
        line=record.reason.line if record.reason is not None else "",
        waits_for=record.waits_for,
        log=log_path(record.name),
    )


def summary_json(whole: Summary) -> bytes:
    """The summary as the file holds it: a task a line is too long for people, so it is indented."""
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def read_summary(content: bytes) -> Summary:
    """The summary in a file. Raises: msgspec.DecodeError when it is not one."""
    return msgspec.json.decode(content, type=Summary)
