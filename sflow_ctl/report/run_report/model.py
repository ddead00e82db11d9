"""The types of `report.json`. `docs/reference/report.md` is generated from them.

Made by `building.py` and `differences.py`, shown by `report/page`. Times of tasks are seconds after the run's beginning.
"""

from typing import Any

from msgspec import Struct

from sflow_ctl.core.states import TaskState

VERSION = 1
"""Grows when a field changes its meaning; fields may be added without."""


class RunHead(Struct, frozen=True, kw_only=True):
    """Which run it is, and how it stands or ended."""

    run_id: str
    """The id of the run."""
    workflow: str
    """The workflow's name."""
    directory: str
    """Its run directory, absolute."""
    state: str
    """`running`, `silent`: its controller does not answer, `died`: it has ended without a result; else the outcome, as in
    `summary.json`."""
    text: str
    """The state as a sentence."""
    exit_status: int | None
    """Of `sflow-ctl run`; null until the run has ended."""
    began_wall_ns: int
    """When its first controller began, in ns since 1970; all times of tasks are counted from here."""
    ended_wall_ns: int | None
    """When it ended; null of a run that has no result."""
    made_wall_ns: int
    """When the report was made."""
    duration_s: float
    """From its beginning to its end, or to the last event of a run that has none."""
    counts: dict[str, int]
    """The number of tasks in each state."""
    host: str
    """The host of its last controller."""
    job_id: str | None
    """The Slurm job it was planned for."""
    command: tuple[str, ...]
    """The command that began it."""
    resumed_by: tuple[tuple[str, ...], ...] = ()
    """The commands that resumed it, oldest first."""
    takeovers: int = 0
    """How many controllers were killed and replaced."""


class CauseReport(Struct, frozen=True, kw_only=True):
    """Why the run did not complete: the first failure."""

    text: str
    """The sentence."""
    task: str | None = None
    """The task that failed first."""
    attempt: int | None = None
    """The number of its attempt."""
    node: str | None = None
    """The node on which it failed."""
    word: str = ""
    """The reason for programs, as in `summary.json`."""
    why: str = ""
    """The reason as a sentence."""
    line: str = ""
    """The log line that shows it."""
    hint: str = ""
    """The remedy."""
    log: str = ""
    """The log, relative to the run directory."""
    log_tail: tuple[str, ...] = ()
    """Its last lines."""
    next: tuple[str, ...] = ()
    """Commands that help further."""


class AttemptReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of a task. Times that it did not reach are left out."""

    number: int
    """From 1."""
    nodes: tuple[int, ...] = ()
    """Indices in `nodes`; only the first one of an attempt on nodes that were chosen when it started."""
    gpus: tuple[int, ...] = ()
    """Indices of its GPUs on each of its nodes."""
    queued_s: float | None = None
    """When it could have started: its dependencies held."""
    starting_s: float | None = None
    """When it was given its place."""
    running_s: float | None = None
    """When all of its processes had started."""
    ready_s: float | None = None
    """When its readiness probe had triggered."""
    stopping_s: float | None = None
    """When it began to be stopped."""
    ended_s: float | None = None
    """When it had ended."""
    end: TaskState | None = None
    """How it ended; `failed` for one that another attempt followed, null while it lives."""
    word: str = ""
    """Why it ended, for programs."""
    text: str = ""
    """Why it ended, as a sentence."""
    exit: str = ""
    """Its exit status, or the name of the signal that ended it."""


class TaskReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One concrete task. Durations are those of its last attempt, in seconds."""

    name: str
    """The concrete task."""
    base: str
    """Its name in the file."""
    state: TaskState
    """Its state, or how it ended."""
    is_service: bool = False
    """It serves other tasks, and is stopped when these are done."""
    is_stopped: bool = False
    """A service whose stop was its normal end."""
    word: str = ""
    """Why it is in its state, for programs."""
    text: str = ""
    """Why it is in its state, as a sentence."""
    hint: str = ""
    """The remedy of a failure."""
    waits_for: str = ""
    """The readiness conditions that a running service has not met."""
    progress: str = ""
    """How far it is while it runs, by its own words."""
    waited_s: float | None = None
    """From when its dependencies held to when it was given its place."""
    startup_s: float | None = None
    """From then until its processes ran."""
    ready_after_s: float | None = None
    """From then until it was ready."""
    ran_s: float | None = None
    """From the start of its processes to their end, or until now."""
    sweep: dict[str, str] = {}
    """The swept variables and its values."""
    outputs: dict[str, Any] = {}
    """The values of its outputs."""
    output_problems: tuple[str, ...] = ()
    """Why values are missing."""
    uploads: str = ""
    """What became of its uploads."""
    cpu_s: float | None = None
    """CPU time of all its processes and attempts, as far as it was measured."""
    max_rss_bytes: int | None = None
    """The most memory on one node at one measurement."""
    read_bytes: int | None = None
    """What its processes read, from caches as well."""
    written_bytes: int | None = None
    """What they wrote."""
    gpu_busy_s: float | None = None
    """Seconds in which its GPUs computed, added up over them."""
    gpu_energy_j: float | None = None
    """Its share of the energy of its GPUs in joules."""
    log: str = ""
    """Its log, relative to the run directory."""
    attempts: tuple[AttemptReport, ...] = ()
    """Its attempts, oldest first."""


class PathStep(Struct, frozen=True, kw_only=True):
    """A part of the critical path: an attempt that the next one, or the end of the run, had to wait for."""

    task: str
    """The concrete task."""
    attempt: int
    """The number of its attempt."""
    after: str
    """What it began after: `begin` of the run, `dependency`, `retry`, `place`: a task gave its place free, or `stop`: the run's
    end had begun."""
    until: str
    """What the next step waited for: `ready`, `started`, `end`, or `now` in a live run."""
    begin_s: float
    """When the step before had come so far; 0 for the first one."""
    queued_s: float
    """Seconds until it was given its place."""
    startup_s: float
    """Seconds until its processes ran."""
    ran_s: float
    """Seconds until what the next step waited for."""
    end_s: float
    """When that was."""


class GroupReport(Struct, frozen=True, kw_only=True):
    """All replicas of one task of the file."""

    name: str
    """Its name in the file."""
    count: int
    """The number of concrete tasks."""
    counts: dict[str, int]
    """The number in each state."""
    retried: int
    """Attempts beyond the first of each."""
    waited_s: "ValueSpread | None"
    """From when dependencies held to when there was a place."""
    startup_s: "ValueSpread | None"
    """From then until processes ran."""
    ready_after_s: "ValueSpread | None"
    """From then until it was ready."""
    ran_s: "ValueSpread | None"
    """The run time."""


class ValueSpread(Struct, frozen=True):
    """Several values."""

    low: float
    """The least."""
    median: float
    """The middle one."""
    high: float
    """The greatest."""


class ReportedNode(Struct, frozen=True, kw_only=True):
    """One node of the run."""

    index: int
    """Its index."""
    name: str
    """Its name."""
    backend: str
    """The backend that it belongs to."""
    gpus: int | None = None
    """GPUs that tasks may be given here."""
    gpu_models: tuple[str, ...] = ()
    """Their models."""
    cpus: int | None = None
    """Its CPUs."""
    memory_bytes: int | None = None
    """Its memory."""
    busy_s: float = 0.0
    """Seconds in which at least one attempt ran here."""
    gpu_busy: dict[str, float] = {}
    """By the index of a GPU, the part of the run's time in which an attempt had it, from 0 to 1."""


class UsageSeries(Struct, frozen=True, kw_only=True):
    """What was measured of one node, one GPU or one task, as a course over the run."""

    metric: str
    """`cpu`, `memory`, `gpu`, `gpu_memory` or `power` of nodes and GPUs; `task_cpu` in CPUs and `task_memory` of the tasks that
    used the most."""
    unit: str
    """The unit of its values."""
    node: str
    """The node's name."""
    gpu: str | None = None
    """The index of the GPU."""
    task: str | None = None
    """The concrete task."""
    average: float
    """Over all readings."""
    highest: float
    """Of all readings."""
    values: tuple[float | None, ...] = ()
    """The average at each of the times of `at_s`; empty where there are too many series."""


class UsageReport(Struct, frozen=True, kw_only=True):
    """What was measured of the nodes."""

    at_s: tuple[float, ...]
    """Times, in seconds after the run's beginning."""
    series: tuple[UsageSeries, ...]
    """The courses, by metric, node and GPU."""
    energy_j: float | None = None
    """The energy of all GPUs: by their counters, else from their power over time."""
    is_simulated: bool = False
    """Some GPUs are only counted."""


class PlotSeries(Struct, frozen=True, kw_only=True):
    """A line of a plot."""

    name: str
    """The values of the other swept variables, or the task's name in the file."""
    values: tuple[float | None, ...]
    """One for each place of the axis; the mean where several tasks have the same place."""


class Plot(Struct, frozen=True, kw_only=True):
    """One value of a sweep over one of its variables."""

    value: str
    """The name of the value."""
    over: str
    """The swept variable on the axis."""
    places: tuple[str, ...]
    """Its values, in order."""
    is_numeric: bool
    """All of them are numbers."""
    series: tuple[PlotSeries, ...]
    """The lines."""


class ResultsReport(Struct, frozen=True, kw_only=True):
    """The values of all tasks, as in `results.csv`."""

    columns: tuple[str, ...]
    """Their names: facts, swept variables, values."""
    rows: tuple[list[Any], ...]
    """One for each task that has values."""
    swept: tuple[str, ...] = ()
    """Which columns are swept variables."""
    plots: tuple[Plot, ...] = ()
    """Values over swept variables."""


class RunReport(Struct, frozen=True, kw_only=True):
    """`report.json`: all about one run."""

    version: int = VERSION
    """The version of this format; it grows when a field changes its meaning."""
    run: RunHead
    """Which run it is, and how it stands or ended."""
    cause: CauseReport | None = None
    """Why it did not complete; null for one that did, and for one without a result."""
    problems: tuple[str, ...] = ()
    """What of the run's record could not be read, and what is missing here."""
    warnings: tuple[str, ...] = ()
    """Warnings of the plan."""
    path: tuple[PathStep, ...] = ()
    """The critical path, from the beginning of the run to its end."""
    groups: tuple[GroupReport, ...] = ()
    """The tasks by their names in the file."""
    nodes: tuple[ReportedNode, ...] = ()
    """The nodes."""
    usage: UsageReport | None = None
    """What was measured; null without a monitor."""
    results: ResultsReport | None = None
    """Values of tasks; null if no task has any."""
    variables: dict[str, Any] = {}
    """The variables of the workflow."""
    versions: dict[str, str] = {}
    """Versions of programs and libraries."""
    tasks: tuple[TaskReport, ...] = ()
    """All tasks, in the order of the plan."""


def shortened(value: float) -> float:
    """Return a value with the digits that a plot of it needs: a task may use a hundredth of a CPU."""
    size = abs(value)
    return round(value, 1 if size >= 10 else 2 if size >= 1 else 3)
