"""What the tab key offers: ids of runs and names of tasks. Called by click when a shell asks; nothing of it may fail or print."""

from pathlib import Path

import click

MOST = 100
"""Ids and names that are offered."""


def complete_runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of runs that begin so, the newest first: those of the output directory, and `last`."""
    from sflow_ctl.runtime.record.reader import list_runs

    names = [run.name for run in reversed(list_runs(_output_dir(context)))]
    return [name for name in [*names[:MOST], "last"] if name.startswith(incomplete)]


def complete_tasks(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of tasks that begin so, of the run that `--run` names, else of the live or newest one."""
    return _tasks(context, context.params.get("run"), incomplete)


def complete_words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return what may come next of `[RUN] [TASK]...`: runs and tasks first, then the tasks of the run."""
    if context.params.get("run") is not None:  # `logs --run RUN`
        return complete_tasks(context, parameter, incomplete)
    words = context.params.get(parameter.name or "") or ()
    first = [] if words else complete_runs(context, parameter, incomplete)
    return [*first, *_tasks(context, words[0] if words else None, incomplete)]


def _tasks(context: click.Context, run: str | None, incomplete: str) -> list[str]:
    from sflow_ctl.runtime.record.reader import RunReader, find_run

    output_dir = _output_dir(context)
    for argument in dict.fromkeys((run, None)):
        try:
            plan = RunReader(find_run(argument, output_dir, prefers_live=True)).plan
        except Exception:  # noqa: BLE001 - there is no run, or it cannot be read: nothing is offered
            continue
        names = dict.fromkeys(name for task in plan.tasks for name in (task.base, task.name))
        return [name for name in names if name.startswith(incomplete)][:MOST]
    return []


def _output_dir(context: click.Context) -> Path:
    from sflow_ctl.cli.options.run_option import output_directory_of_settings

    given = context.params.get("output_dir")
    try:
        return given if isinstance(given, Path) else output_directory_of_settings()
    except Exception:  # noqa: BLE001 - a settings file with a mistake
        return Path("sflow_output")
