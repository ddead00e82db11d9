"""The common parts of `attach`, `status` and `logs`: the RUN argument, the chosen tasks, and sentences about a run."""

import fnmatch
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from protocol.errors import UsageError
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.format.checking import nearest
from sflow_ctl.report.cause import next_lines, resume_commands
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.words import duration_text, outcome_text
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.record.sources import changed_files
from sflow_ctl.runtime.viewing.client import ViewerLink, connect
from sflow_ctl.runtime.viewing.files import FileWatch

F = TypeVar("F", bound=Callable[..., object])


def output_dir_option(command: F) -> F:
    """Add `--output-dir`."""
    option = click.option(
        "--output-dir",
        type=click.Path(path_type=Path),
        callback=lambda _context, _parameter, given: given or output_directory_of_settings(),
        help="Parent of run directories. Default: your settings', else sflow_output.",
    )
    return option(command)


def output_directory_of_settings() -> Path:
    """Return the parent of run directories where no option names it. Raises: SpecError."""
    from sflow_ctl.runtime.files.settings_files import OUTPUT_DIRECTORY, output_directory, settings_layers

    return output_directory(settings_layers({}, os.environ).without_workflow(), Path(OUTPUT_DIRECTORY))


def watch_run(reader: RunReader) -> tuple[ViewerLink | FileWatch, str]:
    """Connect to the controller, or watch the files of the run; return the watch and how it was reached."""
    facts = reader.connection()
    link = connect(facts) if facts is not None else None
    if link is not None:
        return link, "through its controller"
    return FileWatch(reader), "through its files (its controller does not answer)"


def ended_text(reader: RunReader, summary: Summary) -> str:
    """Return in one line how the run ended."""
    how = outcome_text(summary.outcome)
    took = duration_text(summary.duration_s)
    return f"{reader.facts.run_id}: {how} after {took}, exit status {summary.exit_status}"


def state_text(reader: RunReader, summary: Summary | None) -> str:
    """Return in one line whether the run is running."""
    if summary is not None:
        return ended_text(reader, summary)
    status = reader.status()
    word = {
        Liveness.RUNNING: "is running",
        Liveness.DEAD: "died",
        Liveness.ENDED: "has ended",
        Liveness.UNKNOWN: "may be running",
    }[status.liveness]
    return f"{reader.facts.run_id} {word}: {status.text}"


def changed_lines(facts: RunFacts, run: str) -> list[str]:
    """Say which workflow files are no longer what a run uses, and how a resume would take them; `run` is its directory."""
    changed = [display_path(path) for path in changed_files(facts.sources)]
    if not changed:
        return []
    have = "has" if len(changed) == 1 else "have"
    command = f"sflow-ctl run {shlex.join(workflow_files(facts))} --resume {shlex.quote(run)}"
    return [
        f"{', '.join(changed)} {have} changed since the run; the run's own copy is used (to use the files: {command})"
    ]


def workflow_files(facts: RunFacts) -> list[str]:
    """Return the workflow files of a run as they are typed here; none if it was not made from files."""
    return [display_path(Path(one.path)) for one in facts.sources]


def resume_lines(reader: RunReader) -> list[str]:
    """Return lines with the commands that resume a run."""
    return next_lines(resume_commands(display_path(reader.directory), workflow_files(reader.facts)))


def chosen_tasks(reader: RunReader, names: tuple[str, ...]) -> list[str]:
    """Return the concrete tasks that `names` mean, in the order of the names.

    A replicated task's name means all of its replicas, `a[2]` the one of this number; in a pattern, `*`, `?` and `[...]` are as
    in file names. Raises: UsageError.
    """
    chosen: dict[str, None] = {}
    known = [task.name for task in reader.plan.tasks]
    for name in names:
        found = [task.name for task in reader.plan.tasks if name in (task.name, task.base)]
        if not found:
            found = [task.name for task in reader.plan.tasks if name == f"{task.base}[{task.replica_index}]"]
        if not found and any(mark in name for mark in "*?["):
            found = fnmatch.filter(known, name)
        if not found:
            meant = nearest(name, [*known, *{task.base for task in reader.plan.tasks}])
            hint = f'did you mean "{meant}"?' if meant else "its tasks are: " + ", ".join(known[:20])
            replicas = [one.name for one in reader.plan.tasks if one.base == name.partition("[")[0]]
            if len(replicas) > 1 and name.endswith("]"):
                base = name.partition("[")[0]
                hint = f"{base} has {len(replicas)} replicas, {base}[0] to {base}[{len(replicas) - 1}]"
            raise UsageError.of("unknown-task", f'run {reader.facts.run_id} has no task "{name}"', hint=hint)
        chosen.update(dict.fromkeys(found))
    return list(chosen)
