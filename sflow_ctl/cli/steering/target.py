"""The run that a command changes, and its tasks: `[RUN] [TASK]...`, of which RUN may be left out.

Stricter than the commands that only look: where several runs could be meant, none is changed.
"""

from contextlib import suppress
from pathlib import Path

from protocol.errors import UsageError
from protocol.text.listing import listed
from sflow_ctl.cli.options.run_option import chosen_tasks
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.runtime.catalog.overview import live_runs
from sflow_ctl.runtime.record.reader import RunReader, find_run, list_runs

SHOWN = 8


def target_run(word: str | None, output_dir: Path) -> RunReader:
    """Return the run that a word names; without one, the only live run. One that was not named in full is said.

    Raises: UsageError if several are meant. Without a live one the newest is returned, whose end the command reports.
    """
    return _said(_meant(word, output_dir), word)


def _meant(word: str | None, output_dir: Path) -> RunReader:
    if word is not None:
        return RunReader(_named(word, output_dir))
    live = live_runs(output_dir)
    if len(live) > 1:
        names = listed([run.name for run in live], SHOWN)
        what = f"{len(live)} runs are live: {names}"
        raise UsageError.of("ambiguous-run", what, hint="name the run before the tasks")
    return RunReader(live[0] if live else find_run(None, output_dir))


def _said(reader: RunReader, word: str | None = None) -> RunReader:
    """Say on standard error which run is meant, unless it was named in full."""
    run_id = reader.facts.run_id
    if word is None or ("/" not in word and word != run_id):
        print_line(f"run {run_id}:", err=True)
    return reader


def _named(word: str, output_dir: Path) -> Path:
    """Return the run of a path or a whole id, or the live one of the output directory whose id begins so.

    The beginning of an id means no other run: it may be a mistyped task. Raises: UsageError.
    """
    found = find_run(word, output_dir, prefers_live=True)
    if "/" in word or word in (found.name, "last"):
        return found
    fitting = [run for run in live_runs(output_dir) if run.name.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    what = f'{len(fitting) or "no"} live run{"s" if fitting else ""} in {output_dir} begin{"" if fitting else "s"} with "{word}"'
    raise UsageError.of("no-such-run", what, hint="name the run in full; sflow-ctl ps -a lists runs")


def target_run_and_tasks(words: tuple[str, ...], output_dir: Path) -> tuple[RunReader, list[str]]:
    """Return the run and the tasks that words name; no task is named if all that is named is a run.

    The first word is a run unless it is a task of the live one. Raises: UsageError, also for a word that is both.
    """
    if not words:
        return target_run(None, output_dir), []
    first, *rest = words
    is_run = "/" in first or any(run.name == first for run in list_runs(output_dir))
    default = None
    with suppress(UsageError):
        default = _meant(None, output_dir)
    is_task = default is not None and "/" not in first and _names_task(default, first)
    if is_task and is_run:
        assert default is not None
        what = f'"{first}" is a run, and a task of {default.facts.run_id}'
        hint = f"name both: {default.facts.run_id} {first}, or the run by its directory"
        raise UsageError.of("ambiguous-word", what, hint=hint)
    if is_task:
        assert default is not None
        return _said(default), chosen_tasks(default, words)
    try:
        reader = target_run(first, output_dir)
    except UsageError as error:
        if error.findings[0].code != "no-such-run":
            raise
        if default is None:
            _meant(None, output_dir)  # several runs are live, or there is none: its error says more
            raise
        what = f'"{first}" is neither a run nor a task of {default.facts.run_id}'
        known = listed(list(dict.fromkeys(task.base for task in default.plan.tasks)), SHOWN)
        hint = f"its tasks are {known}; sflow-ctl ps -a lists runs"
        raise UsageError.of("no-such-run", what, hint=hint) from error
    return reader, chosen_tasks(reader, tuple(rest))


def _names_task(reader: RunReader, word: str) -> bool:
    with suppress(UsageError):
        return bool(chosen_tasks(reader, (word,)))
    return False
