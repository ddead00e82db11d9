"""Job arrays: one script for several rows whose jobs ask Slurm for the same. Pure. Called by `cli/sheets/batch_array.py`."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.batch.directives import directive
from sflow_ctl.batch.script import BatchJob, command_text, job_directives, shell_lines

PREFIX = "SFLOW_RUN_ID_PREFIX"
_NAME = 'export {name}="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"'


class ArrayRow(Struct, frozen=True):
    """One job of an array: its number in the array, and the job."""

    number: int
    job: BatchJob


def same_requests(rows: Sequence[ArrayRow]) -> list[list[ArrayRow]]:
    """Return the rows in groups that one array each can hold: all but name and command of their jobs is the same."""
    groups: dict[tuple[str, ...], list[ArrayRow]] = {}
    for row in rows:
        alike = replace(row.job, name="", argv=())
        key = (*job_directives(alike), *shell_lines(alike))
        groups.setdefault(key, []).append(row)
    return [*groups.values()]


def array_script(name: str, rows: Sequence[ArrayRow], at_once: int | None, made_by: str) -> str:
    """Return the script of an array called `name`, of which `at_once` jobs run at a time.

    Runs begin with the array's number and the row's, which are known when it is submitted. Raises: UsageError for values a
    script cannot hold.
    """
    first = replace(rows[0].job, name=name)
    numbers = ",".join(str(row.number) for row in rows)
    limit = "" if at_once is None else f"%{at_once}"
    lines = [
        "#!/bin/bash",
        f"# Made by {made_by}.",
        *job_directives(first),
        directive("array", f"{numbers}{limit}"),
        *shell_lines(first),
        _NAME.format(name=PREFIX),
        'case "$SLURM_ARRAY_TASK_ID" in',
    ]
    for row in rows:
        lines += [f"{row.number})", f"exec {command_text(row.job.argv)}", ";;"]
    return "\n".join([*lines, "esac", 'echo "no row $SLURM_ARRAY_TASK_ID" >&2', "exit 2", ""])
