"""`summary.json`: how a run and each of its tasks ended, for programs.

The format is described in `docs/`; `version` grows when a field changes its meaning. Written by the runtime,
read by `status`, `attach` and `run --resume`. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast, overload

import msgspec

from protocol.messages.handover import CheckpointChoice, ChoiceRule
from protocol.messages.telemetry import RankUse
from protocol.messages.uploads import UploadedFile, UploadOutcome
from protocol.text.signal_names import signal_name, signal_number
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.resumed import AgentRestart, ResumedSummary, Takeover
from sflow_ctl.report.run_view import RunView, TaskProgress, TaskRecord
from sflow_ctl.report.telemetry.use import WindowUse
from sflow_ctl.report.words import node_name

_WRITTEN_AT_ONCE = 1000
_NONE: Mapping[str, tuple[()]] = MappingProxyType({})


class UploadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of uploads."""

    count: int
    """How many files were uploaded."""
    bytes: int
    """Their size in bytes."""
    files: tuple[UploadedFile, ...]
    """The first 500 of them."""
    problems: tuple[str, ...]
    """What was not uploaded, and why; the first 50."""

    @classmethod
    def of(cls, outcome: UploadOutcome) -> "UploadSummary":
        """Return the summary of an outcome."""
        problems = tuple(problem.text for problem in outcome.problems)
        return cls(count=outcome.count, bytes=outcome.bytes, files=outcome.files, problems=problems)


class CheckpointSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt continued from, and why."""

    attempt: int
    """The number of the attempt."""
    path: str
    """The absolute path of a file or directory; empty where it began anew."""
    step: int | None
    """The step, or the epoch, of the checkpoint; null where its name has none."""
    rule: ChoiceRule
    """What has decided: the program's pointer (`state_file`), a `step` or `epoch`, that it was the `only` one, its name (`best`),
    a `path` of the file, a given `start`; `none` was found, it was `ambiguous`, or what was there was `ignored`."""
    why: str
    """The same as a sentence."""
    others: tuple[str, ...]
    """Other candidates, the first eight."""
    other_count: int
    """How many others there were."""
    notes: tuple[str, ...]
    """What was passed over, and why."""

    @classmethod
    def of(cls, attempt: int, choice: CheckpointChoice) -> "CheckpointSummary":
        """Return the summary of a choice."""
        fields = {name: getattr(choice, name) for name in cls.__struct_fields__ if name != "attempt"}
        return cls(attempt=attempt, **fields)

    @property
    def choice(self) -> CheckpointChoice:
        """The choice that it is of."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "attempt"}
        return CheckpointChoice(**fields)


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How one task ended. `exit_code` and `signal` are those of its last attempt."""

    name: str
    """The concrete task."""
    state: TaskState
    """The state at the end of the run."""
    attempts: int
    """How many attempts were made."""
    exit_code: int | None
    """The exit status of the last attempt; null for an end by a signal, or without a process."""
    signal: str | None
    """The name of the signal that ended the last attempt."""
    runtime_s: float | None
    """The run time of the last attempt in seconds."""
    cpu_s: float | None = None
    """The CPU time of the last attempt in seconds, of all its processes that were waited for or measured; null if unknown."""
    max_rss_bytes: int | None = None
    """The most memory that all processes of a rank of the last attempt had together, added up over its ranks; null if unknown."""
    gpu_energy_j: float | None = None
    """The last attempt's share of the energy of GPUs in joules, up to a second before its end; null where none was measured."""
    other_gpus: tuple[str, ...] = ()
    """UUIDs of GPUs on which the last attempt computed although the plan gave it others."""
    windows: tuple[WindowUse, ...] = ()
    """The windows that the task has marked, with `sflow-ctl mark` or by lines of its log."""
    node: str | None
    """The name of the node on which the last attempt ran."""
    moved_from: tuple[str, ...] = ()
    """The nodes of earlier attempts that ended because a node was lost: that of the first process of each."""
    gpus: tuple[int, ...]
    """Indices of its GPUs on each of its nodes."""
    reason: str
    """The reason as a sentence."""
    reason_word: str
    """One of `protocol.diagnosis.reasons` for a task that has ended, or of a signature of the workflow's own."""
    hint: str = ""
    """The remedy."""
    line: str = ""
    """The log line that shows the reason."""
    progress: TaskProgress | None = None
    """How far a running task is, by its own words; null if it says nothing, and where the run directory is not shared."""
    waits_for: str = ""
    """The readiness conditions that a running service has not met."""
    output_problems: tuple[str, ...] = ()
    """Why values of its outputs are missing."""
    uploading: str = ""
    """How far its uploads are, of a task whose process has exited."""
    uploads: UploadSummary | None = None
    """What was uploaded of its files; null for a task without uploads, or before they are over."""
    labels: dict[str, str] = {}
    """The words about it."""
    checkpoints: tuple[CheckpointSummary, ...] = ()
    """What its attempts after the first continued from, oldest first; the last 20."""
    log: str
    """The log of the last attempt."""


SUMMARY_VERSION = 1


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`summary.json`: how a run ended. `log` paths are relative to the run directory."""

    version: int = SUMMARY_VERSION
    """The version of this format."""
    run_id: str
    """The id of the run."""
    workflow: str
    """The workflow's name."""
    outcome: Outcome
    """How the run ended."""
    exit_status: int
    """The exit status of `sflow-ctl run`."""
    started_wall_ns: int
    """When the run began, in ns since 1970."""
    ended_wall_ns: int
    """When the run ended, in ns since 1970."""
    duration_s: float
    """The time between the two in seconds."""
    counts: dict[str, int]
    """The number of tasks in each state."""
    cause: FirstCause | None
    """The first cause; null for a completed run."""
    tolerated: tuple[str, ...] = ()
    """Tasks of a completed run whose failure was not critical."""
    survivors: tuple[str, ...]
    """Processes that could not be killed, as "pid name"."""
    simulated_gpus: int = 0
    """GPUs that tasks were given although this machine does not have them."""
    refused: dict[str, int]
    """Messages of peers that were refused or dropped, and connections denied, by kind."""
    tasks: tuple[TaskSummary, ...]
    """All tasks, in the order of the plan."""
    resumed: ResumedSummary | None = None
    """What this controller took over from earlier ones; null for one that began the run."""
    takeovers: tuple[Takeover, ...] = ()
    """Controllers that were killed and replaced while their tasks lived, oldest first."""
    agent_restarts: tuple[AgentRestart, ...] = ()
    """Agents that were killed and started again on their nodes, oldest first."""
    outputs: dict[str, Any] = {}
    """The values of `workflow.outputs`, null for those without one; `.sflow/outputs.json` says why."""
    upload_all: UploadSummary | None = None
    """What became of the archive of the run directory; null if none was to be uploaded."""


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
    output_problems: Mapping[str, Sequence[str]] | None = None,
    resumed: ResumedSummary | None = None,
    takeovers: Sequence[Takeover] = (),
    agent_restarts: Sequence[AgentRestart] = (),
    windows: Mapping[str, Sequence[WindowUse]] = _NONE,
    outputs: dict[str, Any] | None = None,
) -> Summary:
    """Return the summary of a run that has ended."""
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
        tolerated=state.failures() if outcome is Outcome.COMPLETED else (),
        survivors=tuple(survivors),
        simulated_gpus=state.plan.simulated_gpus,
        refused=refused or {},
        tasks=cast(
            "tuple[TaskSummary, ...]", _TaskSummaries(state, output_problems or {}, windows)
        ),  # nothing needs those of 100,000 tasks at a time
        resumed=resumed,
        takeovers=tuple(takeovers),
        agent_restarts=tuple(agent_restarts),
        outputs=outputs or {},
    )


def task_summaries(
    state: RunView,
    output_problems: Mapping[str, Sequence[str]] = _NONE,
    windows: Mapping[str, Sequence[WindowUse]] = _NONE,
) -> tuple[TaskSummary, ...]:
    """Return the current state of every task, for programs."""
    return tuple(_TaskSummaries(state, output_problems, windows))


class _TaskSummaries(Sequence[TaskSummary]):
    """The tasks of a run that has ended, each made when it is asked for."""

    def __init__(
        self,
        state: RunView,
        output_problems: Mapping[str, Sequence[str]],
        windows: Mapping[str, Sequence[WindowUse]],
    ) -> None:
        self._records, self._plan = tuple(state.tasks.values()), state.plan
        self._problems, self._windows = output_problems, windows
        tasks = self._plan.tasks if any(one.labels for one in kinds_of(self._plan.tasks)) else ()
        self._labels = {one.name: dict(one.labels) for one in tasks}

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> TaskSummary: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TaskSummary]: ...
    def __getitem__(self, index: int | slice) -> TaskSummary | Sequence[TaskSummary]:
        if isinstance(index, slice):
            return tuple(map(self._made, self._records[index]))
        return self._made(self._records[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def _made(self, record: TaskRecord) -> TaskSummary:
        name = record.name
        made = _task_summary(record, self._plan, self._problems.get(name, ()), self._windows.get(name, ()))
        return msgspec.structs.replace(made, labels=self._labels[name]) if self._labels else made


_NO_REASON = Reason("")


def _task_summary(
    record: TaskRecord, plan: Plan, output_problems: Sequence[str], windows: Sequence[WindowUse]
) -> TaskSummary:
    reason, moved, use = record.reason or _NO_REASON, record.moved_from, record.use or RankUse()
    return TaskSummary(
        name=record.name,
        state=record.state,
        attempts=record.attempts,
        exit_code=record.exit_code,
        signal=None if record.signal is None else signal_name(record.signal),
        runtime_s=None if record.runtime_s is None else round(record.runtime_s, 6),
        cpu_s=use.cpu_s,
        max_rss_bytes=use.max_rss_bytes,
        gpu_energy_j=use.energy_j,
        other_gpus=use.other_gpus,
        windows=tuple(windows),
        node=None if record.node is None else node_name(plan, record.node),
        moved_from=tuple(node_name(plan, moved[one]) for one in sorted(moved)) if moved else (),
        gpus=record.gpus,
        reason=reason.text,
        reason_word=reason.word,
        hint=reason.hint,
        line=reason.line,
        progress=record.progress,
        waits_for=record.waits_for,
        output_problems=tuple(output_problems),
        uploading=record.uploads,
        uploads=None if record.uploaded is None else UploadSummary.of(record.uploaded),
        checkpoints=tuple(CheckpointSummary.of(*one) for one in record.checkpoints)
        if record.checkpoints
        else (),
        log=log_path(record.name),
    )


def summary_json(whole: Summary) -> Iterator[bytes]:
    """Yield the content of the file in pieces: indented for readers, with one line for each task."""
    head = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(whole, tasks=())), indent=1)
    before, empty, after = head.partition(b'"tasks": []')
    yield before + empty[:-1]
    separator = b"\n  "
    for first in range(0, len(whole.tasks), _WRITTEN_AT_ONCE):
        lines = map(msgspec.json.encode, whole.tasks[first : first + _WRITTEN_AT_ONCE])
        yield separator + b",\n  ".join(lines)
        separator = b",\n  "
    yield b"]" + after + b"\n"


def read_summary(content: bytes) -> Summary:
    """Return the summary in a file. Raises: msgspec.DecodeError when it is not one."""
    return msgspec.json.decode(content, type=Summary)


def view_of(whole: Summary, plan: Plan) -> RunView:
    """Return the state at the end of a run, as its summary has it: without the details of log lines in reasons."""
    nodes = {node.name: node.index for node in plan.nodes}
    records = {
        task.name: TaskRecord(
            name=task.name,
            state=task.state,
            attempts=task.attempts,
            node=None if task.node is None else nodes.get(task.node),
            gpus=task.gpus,
            exit_code=task.exit_code,
            signal=None if task.signal is None else signal_number(task.signal),
            runtime_s=task.runtime_s,
            use=_use_of(task),
            reason=Reason(task.reason_word, task.reason, hint=task.hint, line=task.line)
            if task.reason_word
            else None,
            waits_for=task.waits_for,
            uploads=task.uploading,
            checkpoints=tuple((one.attempt, one.choice) for one in task.checkpoints),
        )
        for task in whole.tasks
    }
    return RunView(plan, records)


def _use_of(task: TaskSummary) -> RankUse | None:
    use = RankUse(
        cpu_s=task.cpu_s,
        max_rss_bytes=task.max_rss_bytes,
        energy_j=task.gpu_energy_j,
        other_gpus=task.other_gpus,
    )
    return None if use == RankUse() else use
