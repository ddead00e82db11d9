"""Options of `batch` that hold for every job, from one file, a sheet or many files."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct

from protocol.errors import UsageError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.batch.chain import UNTIL_DONE_JOBS
from sflow_ctl.cli.options.given import COMPAT, cli_settings
from sflow_ctl.cli.options.monitor_options import monitor_options
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.options.sections import section
from sflow_ctl.cli.options.setting_options import job_setting_options
from sflow_ctl.cli.options.workflow_options import skip_artifact_check, task_log_options
from sflow_ctl.plan.words import Compat
from sflow_ctl.runtime.files.settings_files import (
    OUTPUT_DIRECTORY,
    SettingsLayers,
    output_directory,
    settings_layers,
)
from sflow_ctl.runtime.record.run_log import LEVELS

F = TypeVar("F", bound=Callable[..., object])
_PATH = click.Path(path_type=Path)
_POSITIVE = click.IntRange(min=1)
_JOB_ID = lazy_pattern(r"\d+(?:[_+]\d+)?", re.ASCII)
_JOB = section(
    "Slurm job request",
    click.option(
        "-J", "--job-name", metavar="NAME", help="Name of the job. Default: the backend's, else sflow."
    ),
    click.option(
        "-N", "--nodes", type=_POSITIVE, metavar="N", help="Number of nodes. Default: the backend's."
    ),
    click.option(
        "-G",
        "--gpus-per-node",
        type=_POSITIVE,
        metavar="N",
        help="Plan with N GPUs per node and request them. Default: plan with the backend's, request none.",
    ),
    click.option(
        "--time",
        metavar="TIME",
        help="Time limit: minutes, 01:30:00, 1-12:00:00 or 90m. Default: the backend's.",
    ),
    click.option(
        "-O",
        "--sbatch-output",
        metavar="FILE",
        help="Standard output of the job; %j is the job id. Default: OUTPUT_DIR/%j-sflow-submit.out.",
    ),
    click.option(
        "-E",
        "--sbatch-error",
        metavar="FILE",
        help="Standard error of the job. Default: OUTPUT_DIR/%j-sflow-submit.err.",
    ),
    click.option(
        "-e",
        "--sbatch-extra-args",
        "extra_args",
        multiple=True,
        metavar="ARG",
        help="Add an #SBATCH line, which replaces equal options of the workflow; may hold expressions; repeatable.",
    ),
    click.option(
        "--after-ok",
        multiple=True,
        metavar="JOBID|RUN",
        help="Start only after this job, or the job of this run, has completed successfully; repeatable.",
    ),
    click.option(
        "--after-any",
        multiple=True,
        metavar="JOBID|RUN",
        help="Start only after this job has ended; repeatable.",
    ),
    click.option(
        "--after-not-ok",
        multiple=True,
        metavar="JOBID|RUN",
        help="Start only after this job has failed; repeatable.",
    ),
    click.option(
        "--after",
        multiple=True,
        metavar="JOBID|RUN",
        help="Start only after this job has started or was cancelled; repeatable.",
    ),
    click.option(
        "--requeue",
        is_flag=True,
        help="Let Slurm start the job again when a node fails: at once and first of all with Slurm 25.11 or newer (expedite).",
    ),
    click.option(
        "--chain",
        type=_POSITIVE,
        metavar="N",
        help="Submit a job that resumes the run when this one is cut off, and so on, N jobs at most; "
        "stops when a job makes no progress.",
    ),
    click.option(
        "--until-done", is_flag=True, help=f"As --chain {UNTIL_DONE_JOBS}; --chain gives another number."
    ),
    click.option(
        "--watch-progress",
        "watched",
        multiple=True,
        metavar="PATTERN",
        help='With --chain: files in the workspace whose change shows progress, as "ckpt/*.pt"; files in the '
        "tasks' directories always do; repeatable.",
    ),
)
_PASSED_ON = section(
    "Passed on to the run",
    click.option(
        "--headroom", metavar="TIME", help="Stop this long before the job's time limit. Default: 60 s."
    ),
    click.option(
        "--extra-docker-args",
        multiple=True,
        metavar="ARG",
        help="Add arguments to docker run; they replace equal options of the workflow; repeatable.",
    ),
    click.option(
        "-v",
        "--sflow-venv-path",
        "venv_dir",
        type=_PATH,
        metavar="DIR",
        help="Run DIR/.sflow_venv/bin/sflow-ctl. Default: this installation.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        help="Least severe level that is written to sflow.log.",
    ),
)
_SCRIPT = section(
    "Script",
    click.option(
        "-r",
        "--resolve",
        is_flag=True,
        help="Replace expressions with fixed values in the composed workflow.",
    ),
    click.option("--submit", is_flag=True, help="Submit the script with sbatch."),
    click.option(
        "--array",
        "is_array",
        is_flag=True,
        help="With -b or -B: job arrays, one for all rows that ask Slurm for the same, not a job for each.",
    ),
    click.option(
        "--at-once",
        type=_POSITIVE,
        metavar="N",
        help="With --array: run at most N jobs of an array at a time.",
    ),
)


class BatchOptions(Struct, frozen=True, kw_only=True):
    """Options common to all ways of naming jobs. Directories are absolute."""

    overrides: tuple[str, ...]
    artifacts: tuple[str, ...]
    missable: tuple[str, ...]
    workspace_dir: Path
    output_dir: Path
    job_name: str | None
    stdout: str
    stderr: str
    layers: SettingsLayers
    """Settings of site, user and command line, without those of a workflow."""
    time: str | None
    nodes: int | None
    gpus_per_node: int | None
    extra_args: tuple[str, ...]
    compat: Compat
    include_nodes: tuple[str, ...]
    exclude_nodes: tuple[str, ...]
    refuses_ignored: bool
    skip_artifact_check: bool
    extra_docker_args: tuple[str, ...]
    dependencies: tuple[tuple[str, tuple[str, ...]], ...]
    requeue: bool
    chain: int | None
    """Most jobs of its chain; None for a job alone."""
    watched: tuple[str, ...]
    is_array: bool
    at_once: int | None
    venv_dir: Path | None
    log_level: str | None
    enable_workflow_monitor: bool
    enable_task_monitor: tuple[str, ...]
    resolve: bool
    submit: bool


def job_options(command: F) -> F:
    """Add the options about jobs, about their runs and about the script."""
    passed_on = _PASSED_ON(monitor_options(skip_artifact_check(task_log_options(command))))
    return _SCRIPT(job_setting_options(_JOB(passed_on)))


def batch_options(
    *,
    workspace_dir: Path,
    output_dir: Path | None,
    sbatch_output: str | None,
    sbatch_error: str | None,
    venv_dir: Path | None,
    after_ok: tuple[str, ...],
    after_any: tuple[str, ...],
    after_not_ok: tuple[str, ...],
    after: tuple[str, ...],
    chain: int | None,
    until_done: bool,
    compat: str | None,
    **others: Any,
) -> BatchOptions:
    """Return the options with absolute directories and checked job ids, `others` unchanged. Raises: UsageError."""
    from sflow_ctl.batch.directives import literal_path

    if others["watched"] and chain is None and not until_done:
        raise UsageError.of(
            "options", "--watch-progress is for a chain", hint="add --chain N or --until-done"
        )
    layers = settings_layers(cli_settings(others, output_dir), os.environ)
    output = output_directory(layers.without_workflow(), absolute(workspace_dir / OUTPUT_DIRECTORY))
    log = f"{literal_path(str(output))}/%j-sflow-submit"
    after_options = {
        "after-ok": after_ok,
        "after-any": after_any,
        "after-not-ok": after_not_ok,
        "after": after,
    }
    return BatchOptions(
        workspace_dir=absolute(workspace_dir),
        output_dir=output,
        layers=layers,
        stdout=_pattern(sbatch_output) or f"{log}.out",
        stderr=_pattern(sbatch_error) or f"{log}.err",
        venv_dir=None if venv_dir is None else absolute(venv_dir),
        dependencies=_dependencies(after_options, output),
        chain=chain or (UNTIL_DONE_JOBS if until_done else None),
        compat=COMPAT.get(compat or "", "ours"),
        **others,
    )


def _dependencies(
    given: Mapping[str, tuple[str, ...]], output_dir: Path
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return Slurm's words with the jobs that the options name by number, or by a run in them. Raises: UsageError."""
    found = []
    for option, texts in given.items():
        jobs = [_job_of(word, option, output_dir) for text in texts for word in text.split(":")]
        if jobs:
            found.append((option.replace("-", ""), tuple(dict.fromkeys(jobs))))
    return tuple(found)


def _job_of(word: str, option: str, output_dir: Path) -> str:
    if _JOB_ID.fullmatch(word):
        return word
    from sflow_ctl.runtime.record import layout
    from sflow_ctl.runtime.record.claim import read_claim
    from sflow_ctl.runtime.record.reader import find_run

    hint = "write a job's number, as sbatch and squeue print it, or a run's id"
    try:
        run = find_run(word, output_dir)
    except UsageError as error:
        what = f'"{word}" is neither a job id nor a run: {error.findings[0].what}'
        raise UsageError.of("job-id", what, f"--{option} {word}", hint) from error
    claim = read_claim(run / layout.CLAIM)
    if claim is None or not claim.job_id:
        raise UsageError.of("job-id", f"run {run.name} is in no Slurm job", f"--{option} {word}", hint)
    return claim.job_id


def _pattern(given: str | None) -> str | None:
    """Return a file name pattern of sbatch as an absolute path; the working directory is escaped."""
    if given is None:
        return None
    from sflow_ctl.batch.directives import literal_path

    return given if given.startswith("/") else f"{literal_path(str(Path.cwd()))}/{given}"
