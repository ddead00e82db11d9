"""`run --chain FILE`: a job of a chain, which begins or resumes the chain's run, and leaves the rest to the job that follows."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from protocol.errors import ExitStatus, FleetError, UsageError
from sflow_ctl.batch.chain import Chain, goes_on
from sflow_ctl.cli.resuming import output_dir_of, resumed
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.core.states import Outcome
from sflow_ctl.report.summary import Summary
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.slurm.chaining import begin_link, cancel_follow_up, read_chain, write_chain


def run_link(options: RunOptions, path: Path, run: Callable[[RunOptions], int]) -> int:
    """Run one job of a chain with `run`; return its exit status. Raises: FleetError."""
    job_id = _job_id()
    chain = read_chain(path)
    if not chain.run:
        name = f"{job_id}-{Path(chain.script).stem}"
        chain.run = str(output_dir_of(options).absolute() / name)
    directory = Path(chain.run)
    ended = _summary(directory)
    if ended is not None and ended.outcome is Outcome.COMPLETED:
        print_line(f"sflow-ctl: chain: the run has completed: {chain.run}", err=True)
        return int(ExitStatus.OK)
    try:
        found = begin_link(path, chain, job_id, options.workflow.workspace_dir)
    except (FleetError, OSError) as error:
        _say(f"no job follows this one: {error}")
    else:
        if found.refusal:
            _say(f"{found.refusal}; the run is left as it is: {chain.run}")
            return int(ExitStatus.RUN_FAILED)
        if found.note:
            _say(found.note)
    follow_up = next((link.follow_up for link in chain.links if link.job_id == job_id), "")
    if follow_up:
        _say(f"job {len(chain.links)} of at most {chain.cap}; {follow_up} follows")
    if (directory / layout.RUN).is_file():
        options = resumed(replace(options, run_id=None), str(directory))
    else:
        settings = {**options.workflow.settings, "output_dir": str(directory.parent)}
        options = replace(
            options, run_id=directory.name, workflow=replace(options.workflow, settings=settings)
        )
    try:
        status = run(options)
    except FleetError as error:
        if not directory.exists():  # it cannot begin, and neither can the next one
            _stop(path, f"the run could not begin: {error}")
        raise
    return end_link(path, status)


def end_link(path: Path, status: int) -> int:
    """Cancel the job that follows, unless it has something to do; return the exit status."""
    chain = read_chain(path)
    ended = _summary(Path(chain.run))
    if ended is None:
        return status
    reason = "" if ended.cause is None or ended.cause.reason is None else ended.cause.reason.word
    if goes_on(ended.outcome.value, reason):
        link = next((link for link in chain.links if link.job_id == _job_id()), None)
        follow_up = "" if link is None else link.follow_up
        _say(
            f"{follow_up} continues the run"
            if follow_up
            else f"the run is not done, and no job follows: {chain.run}"
        )
        return status
    _stop(
        path,
        f"the run {'has completed' if ended.outcome is Outcome.COMPLETED else 'has ended: ' + ended.outcome.value}",
    )
    return status


def _stop(path: Path, why: str) -> None:
    chain: Chain = read_chain(path)
    chain.stopped = why
    try:
        write_chain(path, chain)
        cancelled = cancel_follow_up(chain, _job_id())
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"the job that follows could not be cancelled; it will do nothing: {error}")
        return
    _say(f"{why}{f'; job {cancelled}, which was to follow, is cancelled' if cancelled else ''}")


def _job_id() -> str:
    job_id = os.environ.get("SLURM_JOB_ID", "")
    if not job_id:
        raise UsageError.of("not-in-a-job", "a chain is of Slurm jobs", hint="submit the script with sbatch")
    return job_id


def _summary(directory: Path) -> Summary | None:
    try:
        return RunReader(directory).summary()
    except FleetError:
        return None


def _say(text: str) -> None:
    print_line(f"sflow-ctl: chain: {text}", err=True)
