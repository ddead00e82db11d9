"""The arguments `[RUN] [TASK]...` of commands about a run: the first word may be left out. Called by `cli/looking`."""

from contextlib import suppress
from pathlib import Path

import click

from protocol.errors import UsageError
from sflow_ctl.cli.options.run_option import chosen_tasks
from sflow_ctl.runtime.record.reader import RunReader, find_run


def run_and_tasks(words: tuple[str, ...], output_dir: Path) -> tuple[RunReader, list[str]]:
    """Return the run and the tasks that words name: none of them means all.

    A first word that is the name of a task, or a pattern, is one of the live run, or of the newest if none is live; any other
    is a run. A run whose id is also the name of a task is named by its directory. Raises: UsageError.
    """
    if not words:
        return RunReader(find_run(None, output_dir, prefers_live=True)), []
    first, *rest = words
    default = None
    if "/" not in first and not (output_dir / first).is_dir():
        with suppress(UsageError):
            default = RunReader(find_run(None, output_dir, prefers_live=True))
    if default is not None and _names_tasks(default, first):
        return default, chosen_tasks(default, words)
    try:
        reader = RunReader(find_run(first, output_dir, prefers_live=True))
    except UsageError as error:
        if default is None or error.findings[0].code != "no-such-run":
            raise
        what = f'"{first}" is neither a run nor a task of {default.facts.run_id}'
        known = ", ".join(dict.fromkeys(task.base for task in default.plan.tasks))
        raise UsageError.of(
            "no-such-run", what, hint=f"its tasks are {known}; sflow-ctl ps -a lists runs"
        ) from error
    return reader, chosen_tasks(reader, tuple(rest))


def _names_tasks(reader: RunReader, word: str) -> bool:
    with suppress(UsageError):
        return bool(chosen_tasks(reader, (word,)))
    return False


def seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Convert an option's duration. Raises: click.BadParameter."""
    if value is None:
        return None
    from sflow_ctl.planner.numbers import NumberError, as_seconds

    try:
        return as_seconds(value)
    except NumberError as error:
        raise click.BadParameter(str(error)) from error
