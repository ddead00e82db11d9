"""Writes the batch script of one job: the request to Slurm, and the one command that runs in it."""

import shlex
from collections.abc import Mapping

from msgspec import Struct

from sflow_ctl.batch.directives import argument, checked, directive, verbatim
from sflow_ctl.batch.memory import asks_for_memory, without_replaced_memory


class BatchJob(Struct, frozen=True, kw_only=True):
    """One job. Paths are absolute; `stdout` and `stderr` may hold sbatch's `%j`."""

    name: str
    argv: tuple[str, ...]
    workspace_dir: str
    stdout: str
    stderr: str
    partition: str
    account: str
    nodes: int | None
    """None for Slurm's default, one node."""
    time: str | None = None
    """A time as Slurm reads it; None for the partition's limit."""
    gpus_per_node: int | None = None
    dependencies: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Jobs that it waits for, by Slurm's word for until when: afterok and its like."""
    requeue: str = ""
    """Slurm's word for how the job is requeued; empty for the site's default."""
    allocation_args: tuple[str, ...] = ()
    """Options of the file's backend for its allocation, each a word."""
    extra_args: tuple[str, ...] = ()
    """Options that the user adds, each a line, unchanged."""
    has_memory_default: bool = False
    """True where the user's environment tells sbatch how much memory jobs get."""
    preamble: tuple[str, ...] = ()
    """Shell commands before the run."""
    variables: Mapping[str, str] = {}
    """Variables of the run's environment."""


def batch_script(job: BatchJob, made_by: str) -> str:
    """Return the script. Its exit status is that of `argv`.

    Raises: UsageError for values a script cannot hold.
    """
    lines = ["#!/bin/bash", f"# Made by {made_by}.", *job_directives(job), *shell_lines(job)]
    lines += [
        "# Nothing comes after the run: its exit status is the job's, and Slurm's signals reach it.",
        f"exec {command_text(job.argv)}",
    ]
    return "\n".join([*lines, ""])


def shell_lines(job: BatchJob) -> list[str]:
    """Return what the script does before the run. Raises: UsageError."""
    return [
        "",
        *job.preamble,
        *(f"export {name}={_word(value)}" for name, value in job.variables.items()),
        f"cd {_word(job.workspace_dir)} || exit 3",
    ]


def job_directives(job: BatchJob) -> list[str]:
    """Return the request to Slurm as lines of a script. Raises: UsageError."""
    lines = [
        directive("job-name", job.name),
        directive("output", job.stdout),
        directive("error", job.stderr),
        directive("open-mode", "append"),  # a job that is requeued keeps its earlier output
    ]
    allocation_args = without_replaced_memory(job.allocation_args, job.extra_args)
    is_asked_for = any(map(asks_for_memory, (*allocation_args, *job.extra_args)))
    if not is_asked_for and not job.has_memory_default:
        lines.append(directive("mem", 0))  # all of each node's memory: tasks share it
    lines += [directive("partition", job.partition), directive("account", job.account)]
    if job.nodes is not None:
        lines.append(directive("nodes", job.nodes))
    if job.time is not None:
        lines.append(directive("time", job.time))
    if job.gpus_per_node is not None:
        lines.append(directive("gpus-per-node", job.gpus_per_node))
    if job.dependencies:
        text = ",".join(f"{kind}:{':'.join(ids)}" for kind, ids in job.dependencies)
        # Else a job whose condition can no longer hold waits for ever.
        lines += [directive("dependency", text), directive("kill-on-invalid-dep", "yes")]
    if job.requeue:
        lines.append("#SBATCH --requeue" if job.requeue == "requeue" else directive("requeue", job.requeue))
    if allocation_args:
        first, *others = (argument(text) for text in allocation_args)
        lines.append(" ".join([first, *(other.removeprefix("#SBATCH ") for other in others)]))
    return lines + [verbatim(text) for text in job.extra_args]


def command_text(argv: tuple[str, ...]) -> str:
    """Return the command with one option on each line, for readers."""
    lines: list[str] = []
    for word in argv:
        quoted = _word(word)
        if not lines or (word.startswith("--") and len(word) > 2):
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n    ".join(lines)


def _word(text: str) -> str:
    """Return a word for the shell, line breaks included; sbatch refuses only NUL, as the system does."""
    return shlex.quote(text if "\0" not in text else checked(text, text))
