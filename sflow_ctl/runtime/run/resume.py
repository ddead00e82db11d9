"""A run that ended before it was complete goes on in its own directory: what it has behind it, from its files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from protocol.errors import UsageError
from sflow_ctl.core.resume import PriorResult, done_tasks
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import Liveness, RunReader, list_runs


@dataclass(frozen=True, slots=True)
class PriorRun:
    """A run that is to be resumed."""

    directory: Path
    incarnation: int
    """Of its last controller."""
    state: RunView
    plan: Plan
    marker: str
    """In the environment of what its agents started; empty where it is not known."""
    is_completed: bool
    next_seq: int
    """Of the journal."""

    def progress(self) -> str:
        """Return "12 of 40 tasks had completed"."""
        count = sum(record.state is TaskState.COMPLETED for record in self.state.tasks.values())
        return f"{count} of {len(self.state.tasks)} tasks had completed"


def earlier_run(directory: Path) -> PriorRun:
    """What the files of a run say. Raises: RunDirectoryError; UsageError for one that still goes on."""
    reader = RunReader(directory)
    reader.refresh()
    status = reader.status()
    if status.liveness is Liveness.RUNNING:
        raise UsageError.of(
            "still-running",
            f"run {reader.facts.run_id} still goes on: {status.text}",
            hint=f"follow it with sflow-ctl attach {directory}, or stop it first",
        )
    whole = reader.summary()
    return PriorRun(
        directory,
        reader.facts.incarnation,
        reader.state,
        reader.plan,
        reader.facts.marker,
        whole is not None and whole.outcome is Outcome.COMPLETED,
        _lines(directory / layout.JOURNAL) + 1,
    )


def prior_results(run: PriorRun, plan: Plan) -> tuple[dict[str, PriorResult], list[str]]:
    """Each task of the new plan that was there before, and warnings about those that changed."""
    states = {name: record.state for name, record in run.state.tasks.items()}
    done, changed = done_tasks(run.plan, plan, states)
    behind = {}
    for task in plan.tasks:
        record = run.state.tasks.get(task.name)
        if record is None:
            continue
        is_done = task.name in done
        outputs = _outputs(run.directory, task.name) if is_done and task.outputs else None
        if is_done and task.outputs and outputs is None:
            is_done = False  # what others use of it is not there
        behind[task.name] = PriorResult(record.state, record.attempts, is_done, outputs)
    warnings = [f"task {name} had completed and runs again: it has changed since" for name in changed]
    return behind, warnings


def requeued_run(output_dir: Path, run_id: str | None) -> Path | None:
    """The run that this Slurm job was doing before it was requeued, or None: the newest one with its number."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job or not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    if run_id is not None:
        path = output_dir / run_id
        return path if (path / layout.RUN).is_file() else None
    runs = [path for path in list_runs(output_dir) if path.name.startswith(f"{job}-")]
    return runs[-1] if runs else None


def _outputs(directory: Path, task: str) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode((directory / task / "outputs.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return {**document.get("outputs", {}), **document.get("metrics", {})}


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0
