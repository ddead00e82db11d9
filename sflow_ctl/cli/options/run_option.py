"""The common parts of `attach`, `status` and `logs`: the RUN argument, the chosen tasks, and sentences about a run."""

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
from sflow_ctl.report.selecting.selectors import Selectable, selected
from sflow_ctl.report.summary import Summary
from sflow_ctl.report.words import duration_text, outcome_text
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.record.sources import changed_files

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
    return [display_path(Path(one.path)) for one in facts.sources if not one.is_included]


def resume_lines(reader: RunReader) -> list[str]:
    """Return lines with the commands that resume a run."""
    return next_lines(resume_commands(display_path(reader.directory), workflow_files(reader.facts)))


def chosen_tasks(reader: RunReader, names: tuple[str, ...]) -> list[str]:
    """Return the concrete tasks that `names` mean, in the order of the names; `selected` has what a name may be.

    Raises: UsageError.
    """
    tasks = [Selectable(one.name, one.base, one.replica_index, one.key) for one in reader.plan.tasks]
    chosen: dict[str, None] = {}
    for name in names:
        found = selected(name, tasks)
        if not found:
            known = [*dict.fromkeys(word for one in tasks for word in (one.name, one.base, one.key) if word)]
            meant = nearest(name, known)
            hint = f'did you mean "{meant}"?' if meant else "its tasks are: " + ", ".join(known[:20])
            base = name.partition("[")[0]
            replicas = [one.name for one in tasks if one.base == base]
            if len(replicas) > 1 and name.endswith("]"):
                hint = f"{base} has {len(replicas)} replicas, {base}[0] to {base}[{len(replicas) - 1}]"
            raise UsageError.of("unknown-task", f'run {reader.facts.run_id} has no task "{name}"', hint=hint)
        chosen.update(dict.fromkeys(found))
    return list(chosen)
