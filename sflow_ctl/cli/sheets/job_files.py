"""The files of a job of `batch`, beside its script: writes them, makes the directories of its logs, submits it."""

import shlex
from pathlib import Path

from protocol.errors import Finding, RunDirectoryError
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.sheets.batch_job import PreparedJob
from sflow_ctl.cli.terminal.lines import print_warning
from sflow_ctl.runtime.files.documents import write_document
from sflow_ctl.runtime.slurm.chaining import new_chain
from sflow_ctl.runtime.slurm.commands import submit


def write_job(job: PreparedJob, path: Path, composed_path: Path) -> None:
    """Write the executable script, and the workflow beside it. Raises: RunDirectoryError."""
    write_composed(job, composed_path)
    try:
        chain_path = None if job.chain is None else new_chain(job.chain, path)
    except OSError as error:
        raise _not_writable(error, path) from error
    write_script(path, job.stored_script(composed_path, chain_path))


def write_composed(job: PreparedJob, path: Path) -> None:
    """Write the workflow of a job as one file, and make its directory. Raises: RunDirectoryError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, job.composed, is_private=True)
    except OSError as error:
        raise _not_writable(error, path) from error


def write_script(path: Path, script: str) -> None:
    """Write an executable script, and make its directory. Raises: RunDirectoryError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_document(path, script, is_private=True, is_program=True)
    except OSError as error:
        raise _not_writable(error, path) from error


def make_log_directories(job: PreparedJob) -> None:
    """Make the directories in which Slurm opens the logs. Raises: RunDirectoryError."""
    for pattern in (job.stdout, job.stderr):
        directory = Path(pattern).parent
        literal = str(directory).replace("%%", "%")
        if "%" in str(directory).replace("%%", ""):
            print_warning(f"make the directory of {pattern} yourself: Slurm does not make it")
            continue
        try:
            Path(literal).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(error, directory) from error


def submit_job(script: Path) -> str:
    """Submit a written script; return its job id. Raises: LaunchError."""
    return submit(absolute(script))


def log_of(job: PreparedJob, job_id: str) -> str:
    """Return the path of a job's output."""
    return "%".join(part.replace("%j", job_id) for part in job.stdout.split("%%"))


def attach_command(output_dir: Path, job_id: str) -> str:
    """Return the command that follows the job's run."""
    return f"sflow-ctl attach {shlex.quote(str(output_dir))}/{job_id}-*"


def _not_writable(error: OSError, path: Path) -> RunDirectoryError:
    where = str(error.filename or path)
    what = f"{where} cannot be written: {error.strerror or error}"
    return RunDirectoryError((Finding("file-not-writable", what, where, "choose another directory"),))
