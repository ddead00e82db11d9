"""Writes `results.csv`: the result of each row or file."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from protocol.text.cells import inert

NOT_SUBMITTED = "not submitted"
FAILED = "FAILED"
COMPOSED = "composed_sflow_config"
"""The column of the composed workflow, which is there with `--resolve`."""
RESULT_COLUMNS = ("slurm_job_id", "backend_job_id", "sflow_output_dir", "sflow_batch_dir", "status", COMPOSED)

Status = Literal["submitted", "not submitted", "failed"]


class JobResult(Struct, frozen=True):
    """The result of one job; `job_id` if it was submitted."""

    status: Status
    job_id: str | None = None
    composed: str = ""
    """The workflow that the job runs."""
    script: str = ""
    """The script of an array; a job of its own has the script of its name."""


def result_cells(result: JobResult, output_dir: str, batch_dir: str, was_submitting: bool) -> dict[str, str]:
    """Return the last columns of a line; `batch_dir` is the name of the directory that the scripts are in."""
    job, output = NOT_SUBMITTED, NOT_SUBMITTED
    if result.status == "submitted":
        assert result.job_id is not None
        job, output = result.job_id, f"{output_dir}/{result.job_id}-*"
    elif result.status == "failed":
        job, output = FAILED, "" if was_submitting else NOT_SUBMITTED
    values = (job, job, output, batch_dir, result.status, result.composed)
    return dict(zip(RESULT_COLUMNS, values, strict=True))


def results_table(columns: Sequence[str], lines: Sequence[Mapping[str, str]], *, has_composed: bool) -> str:
    """Return the lines as CSV, under `columns` and the result columns; a column with the name of one is replaced."""
    text = io.StringIO(newline="")
    added = [column for column in RESULT_COLUMNS if has_composed or column != COMPOSED]
    header = [*(column for column in columns if column not in added), *added]
    writer = csv.DictWriter(text, header, extrasaction="ignore", lineterminator="\n")
    writer.writerow({column: inert(column) for column in header})
    writer.writerows({column: inert(cell) for column, cell in line.items()} for line in lines)
    return text.getvalue()
