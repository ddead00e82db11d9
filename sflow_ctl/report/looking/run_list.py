"""The list of a user's runs: what `ps` shows, as a table and for programs. Pure; `runtime/catalog` finds the facts."""

from collections.abc import Callable, Sequence

import msgspec

from protocol.text.counted import counted
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.report.cause import resume_commands
from sflow_ctl.report.tables import Colour, Table
from sflow_ctl.report.words import duration_text

LIVE_STATES = frozenset({"running", "silent"})
"""States of runs whose processes may exist."""
_RESUMED = frozenset(
    {"died", Outcome.INTERRUPTED, Outcome.TERMINATED, Outcome.TIMEOUT, Outcome.INFRASTRUCTURE}
)
"""States of runs that were cut off: they are resumed as they are. One that has failed would fail again, as a rule."""
MAX_NOTES = 5
"""About runs that can be resumed."""
_FAILED = (TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST)


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as far as it is known."""

    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    state: str
    """`running`; `silent`: its controller does not answer, but may be alive; `died`: its controller has ended without a
    result; `unreadable`; of a run that has ended its outcome, as in `summary.json`.
    """
    text: str = ""
    """Of a run that has no outcome: who runs it, why it counts as died, or what cannot be read."""
    workflow: str = ""
    """The name of the workflow."""
    host: str = ""
    """The host of its last controller."""
    job_id: str = ""
    """The Slurm job of its last controller."""
    exit_status: int | None = None
    """Of `sflow-ctl run`; null until it has ended."""
    started_wall_ns: int = 0
    """When it began or was last resumed, in ns since 1970; 0 if that is not known."""
    ended_wall_ns: int | None = None
    """When it ended or died; null while it may run."""
    counts: dict[str, int] = {}
    """The number of tasks in each state."""
    labels: dict[str, str] = {}
    """The words about it: `workflow.labels`, and those of `run --label`."""

    @property
    def is_live(self) -> bool:
        """Return whether processes of it may exist."""
        return self.state in LIVE_STATES


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A Slurm job of this user in which no known run is."""

    job_id: str
    """Slurm's number of the job."""
    name: str
    """The job's name."""
    state: str
    """Slurm's word in small letters, as `pending`."""
    reason: str
    """Why it waits, or its nodes: Slurm's words."""
    submitted: str
    """When it was submitted, as Slurm prints it."""


class RunList(msgspec.Struct, frozen=True, kw_only=True):
    """`ps --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    runs: tuple[RunEntry, ...]
    """The newest first: live ones and those that died within a day; all with `-a`."""
    jobs: tuple[JobEntry, ...]
    """Slurm jobs that wait, or in which no known run is."""
    jobs_problem: str = ""
    """Why Slurm was not asked or has not answered; empty where there is no Slurm."""


def run_table(whole: RunList, now_wall_ns: int, display: Callable[[str], str]) -> Table:
    """Return the runs and jobs as a table; `display` shortens paths."""
    rows = [_run_row(run, now_wall_ns, display) for run in whole.runs]
    rows += [_job_row(job) for job in whole.jobs]
    colours = [_colour(run) for run in whole.runs] + [None for _ in whole.jobs]
    notes = [f"{run.run_id} {run.state}: {run.text}" for run in whole.runs if _needs_note(run)]
    unfinished = [run for run in whole.runs if run.state in _RESUMED]
    directories = [display(run.directory) for run in unfinished[:MAX_NOTES]]
    notes += [f"resume: {resume_commands(directory)[0]}" for directory in directories]
    if len(unfinished) > MAX_NOTES:
        notes.append(f"... and {counted(len(unfinished) - MAX_NOTES, 'more run')} that can be resumed")
    if whole.jobs_problem:
        notes.append(f"Slurm's jobs are not shown: {whole.jobs_problem}")
    return Table(
        headings=("RUN", "STATE", "TASKS", "AGE", "LASTED", "WHERE", "DIRECTORY") if rows else (),
        rows=tuple(rows),
        right=frozenset({"AGE", "LASTED"}),
        shrinks=frozenset({"RUN", "DIRECTORY"}),
        spare=("LASTED", "WHERE"),
        painted="STATE",
        colours=tuple(colours),
        notes=tuple(notes),
    )


def age_text(seconds: float) -> str:
    """Return an age in one unit: `12 s`, `5 min`, `3 h`, `12 d`."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {word}"
    return f"{max(0.0, seconds):.0f} s"


def tasks_text(counts: dict[str, int]) -> str:
    """Return `3/7`, or `3/7, 1 failed`: how many tasks have completed, of how many."""
    total, failed = sum(counts.values()), sum(counts.get(state.value, 0) for state in _FAILED)
    done = f"{counts.get(TaskState.COMPLETED.value, 0)}/{total}"
    return f"{done}, {failed} failed" if failed else done if total else "-"


def nothing_text(hidden: Sequence[RunEntry], output_dir: str) -> str:
    """Return what is said where no run is shown."""
    if not hidden:
        return f"no runs: {output_dir} has none, and no other is known"
    return f"no run is live; {counted(len(hidden), 'run')} ended: sflow-ctl ps -a"


def _run_row(run: RunEntry, now_wall_ns: int, display: Callable[[str], str]) -> tuple[str, ...]:
    end = now_wall_ns if run.ended_wall_ns is None else run.ended_wall_ns
    is_known = bool(run.started_wall_ns)
    return (
        run.run_id,
        run.state,
        tasks_text(run.counts),
        age_text((now_wall_ns - run.started_wall_ns) / 1e9) if is_known else "-",
        duration_text(max(0.0, (end - run.started_wall_ns) / 1e9)) if is_known else "-",
        f"job {run.job_id}" if run.job_id else run.host or "-",
        display(run.directory),
    )


def _job_row(job: JobEntry) -> tuple[str, ...]:
    state = f"{job.state}: {job.reason}" if job.reason and job.state == "pending" else job.state
    return (job.name, state, "-", "-", "-", f"job {job.job_id}", "-")


def _colour(run: RunEntry) -> Colour | None:
    if run.state in ("running", Outcome.COMPLETED):
        return "green"
    return "yellow" if run.state in ("silent", Outcome.INTERRUPTED, Outcome.TERMINATED) else "red"


def _needs_note(run: RunEntry) -> bool:
    return run.state in ("silent", "died", "unreadable")
