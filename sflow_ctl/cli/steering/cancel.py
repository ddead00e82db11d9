"""`sflow-ctl cancel`: ends a run, or its Slurm job, also a job that has not started."""

import shutil
import subprocess
from pathlib import Path

import click
import msgspec

from protocol.errors import ControllerAwayError, ExitStatus, LaunchError, UsageError
from protocol.text.listing import listed
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.steering.asking import await_end, request
from sflow_ctl.cli.steering.target import target_run
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.requests import StopRun
from sflow_ctl.report.looking.run_list import JobEntry
from sflow_ctl.runtime.catalog.overview import live_runs
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import read_claim
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.slurm.job_state import JobState, job_state
from sflow_ctl.runtime.slurm.user_jobs import user_jobs

ANSWER_WITHIN_S = 30.0
SHOWN = 8


class CancelReport(msgspec.Struct, frozen=True, kw_only=True):
    """`cancel --json`. A run is also waited for; what went wrong is an error on standard error instead."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str | None
    """The id of the run that was ended; null for a Slurm job in which no run is known."""
    job_id: str | None
    """Slurm's number of the job that was cancelled; null where the run ended in order."""
    text: str
    """What was done, as a sentence."""


@click.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=complete_runs)
@click.option("-v", "--verbose", is_flag=True, help="Print how the request reached the run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def cancel(run: str | None, verbose: bool, as_json: bool, output_dir: Path) -> int:
    """End a live run in order, as Ctrl-C does, or a Slurm job that has not started.

    RUN is a run directory, a run id or the beginning of one, or the number of a Slurm job of yours. Default: the only live run,
    else the only job that waits. A run that does not answer is ended with its Slurm job, if it has one.
    """
    jobs, problem = user_jobs()
    job = _job_meant(run, jobs, output_dir)
    if job is not None:
        _cancel_job(job.job_id)
        text = f"job {job.job_id} ({job.name}, {job.state}) is cancelled"
        return _said(text, as_json=as_json, job_id=job.job_id)
    try:
        reader = target_run(run, output_dir)
    except UsageError as error:
        if problem and error.findings[0].code in ("no-such-run", "no-runs"):
            first = error.findings[0]
            hint = f"{first.hint}; if it is a Slurm job: Slurm cannot be asked here ({problem})"
            raise UsageError.of(first.code, first.what, hint=hint) from error
        raise
    try:
        replied = request(reader, StopRun(), as_json=None if as_json else False, verbose=verbose)
    except ControllerAwayError as error:
        job_id = _job_of(reader)
        if not job_id or job_state(job_id) is not JobState.EXISTS:
            raise
        text = f"{error.findings[0].what}; its Slurm job {job_id} is cancelled"
        if not as_json:
            print_line(text, err=True)
        _cancel_job(job_id)
        return _said(text if as_json else "", as_json=as_json, run_id=reader.directory.name, job_id=job_id)
    status = await_end(reader, [])
    text = replied.answer.text if as_json else ""
    return _said(text, as_json=as_json, run_id=reader.directory.name) if status == ExitStatus.OK else status


def _said(text: str, *, as_json: bool, run_id: str | None = None, job_id: str | None = None) -> int:
    """Say what was done, unless that has been said."""
    if as_json:
        print_json(CancelReport(run_id=run_id, job_id=job_id, text=text))
    elif text:
        print_line(text)
    return int(ExitStatus.OK)


def _job_meant(run: str | None, jobs: list[JobEntry], output_dir: Path) -> JobEntry | None:
    """Return the job that is meant instead of a run; None for a run. Raises: UsageError if several may be."""
    live = live_runs(output_dir)
    if run is not None:
        has_run = any(one.name.startswith(run) for one in live)
        return None if has_run else next((job for job in jobs if job.job_id == run), None)
    waiting = [job for job in jobs if job.state == "pending"]
    if live or not waiting:
        return None
    if len(waiting) > 1:
        names = listed([f"{job.job_id} ({job.name})" for job in waiting], SHOWN)
        raise UsageError.of(
            "ambiguous-run", f"no run is live, and several jobs wait: {names}", hint="name one"
        )
    return waiting[0]


def _job_of(reader: RunReader) -> str:
    claim = read_claim(reader.directory / layout.CLAIM)
    return "" if claim is None else claim.job_id


def _cancel_job(job_id: str) -> None:
    """Have Slurm end a job. Raises: LaunchError with the message of scancel."""
    program = shutil.which("scancel")
    if program is None:
        raise LaunchError.of(
            "scancel-failed", "scancel is not installed here", hint="use a login node of the cluster"
        )
    try:
        done = subprocess.run(
            [program, job_id],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError.of("scancel-failed", f"scancel has not cancelled job {job_id}: {error}") from error
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise LaunchError.of("scancel-failed", f"scancel has not cancelled job {job_id}: {said}")
