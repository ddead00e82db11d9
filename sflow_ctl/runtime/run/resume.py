"""Resumes a run in its own directory: claims it, and reads its progress from its files.

Called by `planning.py` before the plan is made, and by `workflow.py` once the final plan is known.
"""

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from protocol.errors import UsageError
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.masking import mark_of, parts_of
from sflow_ctl.core.actions.resume import PriorResult, decide, has_uploads_left
from sflow_ctl.core.states import LIVE, Outcome, Reason, TaskState, Transition
from sflow_ctl.plan.artifact_mentions import PlannedArtifactUse
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.resumed import ResumedSummary, Takeover, resumed_summary
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.timeline import Timeline
from sflow_ctl.runtime.journal.lazy_records import LazyRecords
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import (
    Claim,
    HeldClaim,
    await_end_of_earlier_start,
    claim_run,
    claim_text,
    holder_of,
    read_claim,
    shows_life,
)
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.plan_file import as_recorded
from sflow_ctl.runtime.record.prior_plans import PriorPlans
from sflow_ctl.runtime.record.reader import Liveness, RunReader, RunStatus
from sflow_ctl.runtime.resuming.results_there import results_there
from sflow_ctl.runtime.run.output_collector import OutputCollector
from sflow_ctl.runtime.viewing.messages import Change
from sflow_ctl.version import VERSION

if TYPE_CHECKING:
    from sflow_ctl.report.selecting.rerun import RerunChoice

_EARLIER_LOG = lazy_pattern(r"\.attempt-(\d+)(?:\.rank-\d+)?\.log$")


class PriorRun(Struct, frozen=True):
    """A run to be resumed."""

    directory: Path
    facts: RunFacts
    """Written by its last controller."""
    state: RunView
    plans: PriorPlans
    is_completed: bool
    journal_start: tuple[int, int]
    """The number of the journal's next line, and of the segment that grows."""
    problems: list[str]
    """What of the journal cannot be read, as sentences."""
    timeline: Timeline
    """Of all controllers so far."""
    claim: HeldClaim | None
    """This process's claim on the run; None for a run that has completed or is only read."""
    takeovers: list[Takeover]
    """The controllers that were killed and replaced so far."""
    is_killed: bool = False
    """Its last controller has left no summary: its supervisor was killed with it, or its machine."""

    @property
    def incarnation(self) -> int:
        """The number of the last controller."""
        return self.facts.incarnation if self.claim is None else self.claim.claim.incarnation - 1

    def grown(self, plan: Plan) -> Plan:
        """Return a plan with the copies for items and the tasks of blocks that the run has had."""
        from sflow_ctl.plan.revisions.growing import grown_like

        return grown_like(plan, self.state.plan)

    def progress(self) -> str:
        """Return "12 of 40 tasks already completed"."""
        count = sum(record.state is TaskState.COMPLETED for record in self.state.tasks.values())
        return f"{count} of {len(self.state.tasks)} tasks already completed"


def earlier_run(
    directory: Path, workspace: Path, *, is_forced: bool = False, must_claim: bool = True,
    job_id: str | None = None, is_rerun: bool = False,
) -> PriorRun:  # fmt: skip
    """Claim a run and read its progress, which cannot change afterwards, however long the run waits for nodes.

    `job_id` is the Slurm job that it is resumed in; a rerun is of a completed run as well. Raises: RunDirectoryError;
    UsageError for a run that is, or may be, still running.
    """
    reader = RunReader(directory)
    if must_claim and reader.summary() is None:
        await_end_of_earlier_start(directory / layout.CLAIM)
    # Read before it is judged: a claim that appears later must not be replaced.
    last = read_claim(directory / layout.CLAIM)
    status = reader.status()
    whole = reader.summary()
    is_completed = whole is not None and whole.outcome is Outcome.COMPLETED and not is_rerun
    if status.liveness is Liveness.ENDED and not is_completed and last is not None:
        status = reader.controller_status()  # another resume keeps the summary until it has its nodes
    if status.liveness is not Liveness.ENDED and not (must_claim and _is_gone_in_job(last, job_id)):
        _refuse_running(reader, status, is_forced)
        if must_claim and last is not None and not is_forced:
            _refuse_renewed(reader, last)
    claim = None
    if must_claim and not is_completed:
        claim = claim_run(directory, max(reader.facts.incarnation, last.incarnation if last else 0))
    return prior_run(directory, workspace, claim, is_completed=is_completed)


def prior_run(
    directory: Path,
    workspace: Path,
    claim: HeldClaim | None,
    *,
    is_completed: bool = False,
    is_lazy: bool = False,
) -> PriorRun:
    """Read what a run's earlier controllers have done; if `is_lazy`, for one that takes over, which decodes records later.

    Raises: RunDirectoryError.
    """
    reader = RunReader(directory)  # another controller may have ended in between
    reader.begin_from_snapshot(is_lazy=is_lazy)
    timeline, records = Timeline({}), reader.state.tasks
    if reader.timeline is not None and isinstance(records, LazyRecords):
        timeline = Timeline.continued(reader.timeline, records.state_then)
    elif reader.timeline is not None:
        states = {record.name: record.state for record in reader.state.tasks.values()}
        timeline = Timeline.restored(reader.timeline, states)
    for change in reader.refresh():
        timeline.note(change.transition, change.wall_ns)
    return PriorRun(
        directory,
        reader.facts,
        reader.state,
        PriorPlans(directory, reader.plan, workspace),
        is_completed,
        (reader.journal.last_seq + 1, reader.journal.segment),
        [*reader.journal.problems(), *filter(None, (reader.plan_file.problem, _other_version(reader.facts)))],
        timeline,
        claim,
        reader.takeovers,
        is_killed=reader.summary() is None,
    )


def _other_version(facts: RunFacts) -> str:
    """Return a sentence about the version that wrote a run; "" if it is this one. It is said once: a resume writes its own."""
    return "" if facts.version == VERSION else f"sflow-ctl {facts.version} wrote the run; this is {VERSION}"


def _is_gone_in_job(claim: Claim | None, job_id: str | None) -> bool:
    """Return whether the claim's holder was on another node of this job, which says that it is dead."""
    from sflow_ctl.runtime.slurm.claim_check import is_gone_there  # only after a crash

    return claim is not None and job_id is not None and is_gone_there(claim, job_id)


def _refuse_running(reader: RunReader, status: RunStatus, is_forced: bool) -> None:
    """Check that the run's controller is dead, or may be alive and the user insists. Raises: UsageError."""
    if status.liveness is not Liveness.RUNNING and not _answers(reader):
        if status.liveness is Liveness.DEAD or is_forced:
            return
        raise UsageError.of(
            "may-be-running",
            f"run {reader.facts.run_id} may still be running: {status.text}",
            hint="make sure that it is not, then resume it with --force",
        )
    raise _still_running(reader, status.text)


def _refuse_renewed(reader: RunReader, claim: Claim) -> None:
    """Watch a claim of another host that only its age calls dead. Raises: UsageError when it is renewed."""
    path = reader.directory / layout.CLAIM
    holder = holder_of(path, claim)
    if not holder.is_presumed or not shows_life(path):
        return
    raise _still_running(reader, f"{claim_text(claim)}, whose clock is not this host's")


def _still_running(reader: RunReader, text: str) -> UsageError:
    """Return the error about a run that is still running, as `text` shows."""
    what = f"run {reader.facts.run_id} is still running: {text}"
    hint = f"follow it with sflow-ctl attach {shlex.quote(str(reader.directory))}, or stop it first"
    return UsageError.of("still-running", what, hint=hint)


def _answers(reader: RunReader) -> bool:
    """Return whether the run's controller answers at the address in `connection.json`."""
    facts = reader.connection()
    if facts is None:
        return False
    from sflow_ctl.runtime.viewing.client import connect

    link = connect(facts)
    if link is not None:
        link.close()
    return link is not None


def prior_results(
    run: PriorRun, plan: Plan, choice: "RerunChoice | None" = None, *, is_dry: bool = False
) -> tuple[dict[str, PriorResult], ResumedSummary]:
    """Each task of the new plan that was there before, and what is kept and what runs again; `choice` is of a rerun.

    Outputs of a task whose exit did not count yet are read now, unless nothing may be written (`is_dry`).

    Raises: UsageError for a chosen task that cannot run.
    """
    plan = as_recorded(plan)
    records = {task.name: run.state.tasks[task.name] for task in plan.tasks if task.name in run.state.tasks}
    there = results_there(run, plan, records, is_dry=is_dry)
    held, completed = there.held, there.completed
    kept, again = decide(plan, completed, there.incomplete)
    left: dict[str, str] = {}
    missed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    if choice is not None and (choice.tasks is not None or choice.keeps_completed):
        from sflow_ctl.report.selecting.rerun import Before
        from sflow_ctl.runtime.resuming.chosen import chosen_rerun  # few resumes are of chosen tasks

        states = {name: record.state for name, record in records.items()}
        chosen = chosen_rerun(plan, Before(states, completed, again, there.incomplete), choice)
        kept, again, left = set(chosen.kept), chosen.again, chosen.left
        missed, notes = chosen.missed, chosen.notes
    uploads = {
        task.name
        for task in plan.tasks
        if task.name in kept
        and task.name in completed
        and not task.is_service
        and has_uploads_left(task.name, plan, completed[task.name], task.name in held)
    }
    reasons = {
        task.name: again.get(task.name) or _unfinished(records[task.name])
        for task in plan.tasks
        if task.name in records
        and task.name not in kept
        and (task.name in again or not (task.is_service and task.name in completed))
    }
    reasons = {name: reason for name, reason in reasons.items() if reason and name not in left}
    results = {
        name: PriorResult(
            record.state,
            max(record.attempts, _logged_attempts(run.directory, name)),
            name in kept,
            there.outputs.get(name) if name in kept else None,
            there.found.get(name, ()) if name in kept else (),
            reasons.get(name, ""),
            exit_code=held[name].exit_code if name in held else None,
            runtime_s=held[name].runtime_s if name in held else None,
            has_uploads_left=name in uploads,
            has_outputs_left=name in there.unfound and name in kept,
            why_left=left.get(name, ""),
            is_missed=name in missed,
            is_rerun=choice is not None,
            checkpoint_base=(choice and choice.checkpoint) or record.checkpoint_base,
        )
        for name, record in records.items()
    }
    names = [task.name for task in plan.tasks if task.name in kept]
    with_uploads = [name for name in names if name in uploads]
    return results, resumed_summary(names, reasons, with_uploads, left, notes)


def take_over_values(outputs: OutputCollector, plan: Plan, results: dict[str, PriorResult]) -> None:
    """Give the collector of a resumed run the values of the tasks that are kept."""
    outputs.values.update(
        {name: prior.outputs for name, prior in results.items() if prior.outputs is not None}
    )
    with_result = [task.name for task in plan.tasks if task.result is not None]
    if with_result:
        outputs.keep_results([name for name in with_result if name in results and results[name].is_done])


def kept_changes(run: PriorRun, results: dict[str, PriorResult]) -> list[Change]:
    """Return the last change of each kept task, for viewers, who hear only of what a controller has changed itself."""
    return [
        Change(
            record.started_wall_ns or run.facts.started_wall_ns,
            Transition(
                task=name,
                attempt=record.attempts,
                old=TaskState.RUNNING,
                new=TaskState.COMPLETED,
                reason=record.reason or Reason("resumed"),
                node=record.node,
                gpus=record.gpus,
                exit_code=record.exit_code,
                signal=record.signal,
                runtime_s=record.runtime_s,
            ),
        )
        for name, record in run.state.tasks.items()
        if name in results
        and results[name].is_done
        and not results[name].has_uploads_left
        and not results[name].has_outputs_left
        and record.state is TaskState.COMPLETED
    ]


def kept_files(plan: Plan, results: dict[str, PriorResult]) -> frozenset[str]:
    """Return the paths of the inline artifacts that kept tasks use: what those have written into them is their result."""
    use = PlannedArtifactUse(plan)
    kept = [
        task
        for task in plan.tasks
        if not task.is_service and task.name in results and results[task.name].is_done
    ]
    return frozenset(
        path
        for name, path in plan.artifacts.items()
        if path in use.inline and Path(path).is_file() and any(use.uses(task, name) for task in kept)
    )


def make_missing_logs(directory: Path, plan: Plan, results: dict[str, PriorResult]) -> None:
    """Make empty logs for attempts of which no byte has arrived: an agent may hand them over once the next ones have begun."""
    for task in plan.tasks:
        before = results.get(task.name)
        if before is None or before.is_done or before.attempt == 0:
            continue
        paths = [rank_log_path(task.name, rank) for rank in range(task.world_size)]
        for path in paths if task.world_size > 1 else [log_path(task.name)]:
            with contextlib.suppress(OSError):  # the agent reports what it cannot write
                log = directory / path
                log.parent.mkdir(mode=0o700, exist_ok=True)
                log.touch(mode=0o600)


def _unfinished(record: TaskRecord) -> str:
    """Say why a task that had started runs again although nothing of it has changed; empty if it had not started."""
    if record.attempts == 0 or record.state is TaskState.COMPLETED:
        return ""
    if record.state in LIVE:
        return f"it was {record.state} when its controller ended"
    return f"it had not completed: {record.state}"


def refuse_masked_values(document: object, secrets: Sequence[str], directory: Path) -> None:
    """Raises: UsageError when a document is a run directory's copy, which does not have the values of its secrets."""
    texts = "\n".join(parts_of(document))
    missing = [name for name in secrets if mark_of(name) in texts]
    if not missing:
        return
    options = " ".join(f"--set {name}=..." for name in missing)
    raise UsageError.of(
        "secret-missing",
        f"the run directory does not have the value of secret{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
        str(directory),
        f"name the workflow file, or give the value again: {options}",
    )


def _logged_attempts(directory: Path, task: str) -> int:
    """Return how many attempts the logs of a task show: the journal may have lost the last ones in a crash."""
    earlier = [0]
    with contextlib.suppress(OSError):
        for path in (directory / task).iterdir():
            match = _EARLIER_LOG.search(path.name)
            if match is not None:
                earlier.append(int(match[1]))
    log = directory / log_path(task)
    try:
        has_log = log.stat().st_size > 0
    except OSError:
        has_log = False
    return max(earlier) + has_log
