"""Writes `results.csv`: the result of each row or file."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from protocol.text.cells import inert

NOT_SUBMITTED = "not submitted"
FAILED = "FAILED"
RESULT_COLUMNS = ("slurm_job_id", "sflow_output_dir", "status")

Status = Literal["submitted", "not submitted", "failed"]


class JobResult(Struct, frozen=True):
    """The result of one job; `job_id` if it was submitted."""

    status: Status
    job_id: str | None = None


def result_cells(result: JobResult, output_dir: str, was_submitting: bool) -> dict[str, str]:
    """Return the last columns of a line."""
    if result.status == "submitted":
        assert result.job_id is not None
        return _cells(result.job_id, f"{output_dir}/{result.job_id}-*", result.status)
    if result.status == "failed":
        return _cells(FAILED, "" if was_submitting else NOT_SUBMITTED, result.status)
    return _cells(NOT_SUBMITTED, NOT_SUBMITTED, result.status)


def _cells(*values: str) -> dict[str, str]:
    return dict(zip(RESULT_COLUMNS, values, strict=True))


def results_table(columns: Sequence[str], lines: Sequence[Mapping[str, str]]) -> str:
    """Return the lines as CSV, under `columns` and the result columns; a column with the name of one is replaced."""
    text = io.StringIO(newline="")
    header = [*(column for column in columns if column not in RESULT_COLUMNS), *RESULT_COLUMNS]
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writerow({column: inert(column) for column in header})
    writer.writerows({column: inert(cell) for column, cell in line.items()} for line in lines)
    return text.getvalue()
