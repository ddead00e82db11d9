"""`sflow-ctl explain`: why tasks wait, why they are not ready, why they ended."""

import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.closing import print_cause
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.query_option import query_option, tasks_of_query
from sflow_ctl.cli.options.run_option import output_dir_option, state_text, workflow_files
from sflow_ctl.cli.options.run_words import run_and_tasks
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.field_text import field_text, is_field_path, is_section
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.states import Transition
from sflow_ctl.planner.show.task_text import probe_text
from sflow_ctl.report.cause import logs_command, next_lines, resume_commands
from sflow_ctl.report.looking.explanation import Explanation, RunFactsNow, explain, needs_a_word
from sflow_ctl.report.looking.started import StartedWith, started_lines
from sflow_ctl.report.summary import Summary
from sflow_ctl.runtime.logs.cursor import last_lines
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.viewing.journal_feed import NodeWatch
from sflow_ctl.runtime.viewing.progress import read_progress

MAX_TASKS = 20
LOG_LINES = 10


class ExplainedTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task of `explain --json`."""

    explanation: Explanation
    """Why it is as it is."""
    log: str | None
    """The path of the log that has the evidence."""
    log_tail: tuple[str, ...]
    """Its last lines."""
    started_with: StartedWith | None = None
    """With `--script`: what it was started with, or will be."""


class ExplainReport(msgspec.Struct, frozen=True, kw_only=True):
    """`explain --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    liveness: Liveness
    """As in `status --json`."""
    text: str
    """The state of the run as a sentence."""
    tasks: tuple[ExplainedTask, ...]
    """Those that were named, else those that wait, are not ready, or did not complete; 20 at most."""
    left_out: int
    """Tasks that would be explained as well, but for their number."""
    next: tuple[str, ...]
    """Commands that help further."""


@click.command(name="explain")
@click.argument("words", nargs=-1, metavar="[RUN] [TASK]... | KEY.PATH", shell_complete=complete_words)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--script",
    "with_script",
    is_flag=True,
    help="Print the command line, environment and script of the tasks as well, with their place and ports.",
)
@query_option
@output_dir_option
def explain_(
    words: tuple[str, ...], as_json: bool, with_script: bool, queries: tuple[str, ...], output_dir: Path
) -> int:
    """Say why tasks wait, why they are not ready, and why they ended: causes, evidence, the next command.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. Without TASK all
    tasks are explained that wait, are not ready, or did not complete. A section or path of the format, such as
    workflow.tasks.probes, prints what the format says of it, as `schema` does.
    """
    if len(words) == 1 and is_field_path(words[0]) and not Path(words[0]).exists():
        print_line(field_text(words[0]))
        return int(ExitStatus.OK)
    if is_section(words) and _is_only_a_section(words, output_dir):
        print_line(field_text(words[0]))
        return int(ExitStatus.OK)
    reader, names = run_and_tasks(words, output_dir)
    run = run_now(reader)
    ended = reader.summary()
    if queries:
        names = tasks_of_query(reader, queries, names or None)
        if not names:
            print_line(f"{reader.facts.run_id}: no task is meant")
            return int(ExitStatus.OK)
    chosen = names or [task.name for task in reader.plan.tasks if needs_a_word(run, task)]
    explained = [_with_log(reader, explain(run, name)) for name in chosen[:MAX_TASKS]]
    if with_script:
        explained = _with_scripts(reader, explained, names)
    left_out = max(0, len(chosen) - MAX_TASKS)
    commands = _next(reader, run, ended, chosen)
    if as_json:
        status = reader.status()
        print_json(
            ExplainReport(
                run_id=reader.facts.run_id,
                directory=str(reader.directory.absolute()),
                liveness=status.liveness,
                text=state_text(reader, ended),
                tasks=tuple(explained),
                left_out=left_out,
                next=tuple(commands),
            )
        )
        return int(ExitStatus.OK)
    print_line(state_text(reader, ended))
    if ended is not None and not names:
        print_cause(reader.state, ended, reader.directory)
        cause = ended.cause.task if ended.cause is not None else None
        explained = [one for one in explained if one.explanation.task != cause]
    for one in explained:
        print_line("\n".join(_lines(one)))
    if left_out:
        print_line(f"... and {left_out} more: name them, or a pattern")
    if not chosen and ended is None:
        print_line("nothing waits: every task runs, is ready or has completed")
    if commands and (ended is None or names or ended.cause is None):
        print_line("\n".join(next_lines(commands)))
    return int(ExitStatus.OK)


def _is_only_a_section(words: tuple[str, ...], output_dir: Path) -> bool:
    """Return whether no run or task has the name of this section of the format; if one has, print that it is both."""
    try:
        run_and_tasks(words, output_dir)
    except UsageError as error:
        return error.findings[0].code in ("no-such-run", "no-runs")
    print_line(f"{words[0]} is a section of the format as well: sflow-ctl schema {words[0]}", err=True)
    return False


def explained_text(reader: RunReader) -> str:
    """Return what the command prints of a whole run, for a report that is read elsewhere."""
    run, ended = run_now(reader), reader.summary()
    lines = [state_text(reader, ended)]
    if ended is not None and ended.cause is not None:
        lines.append(f"first cause: {ended.cause.text}")
    chosen = [task.name for task in reader.plan.tasks if needs_a_word(run, task)]
    for name in chosen[:MAX_TASKS]:
        lines += _lines(_with_log(reader, explain(run, name)))
    if len(chosen) > MAX_TASKS:
        lines.append(f"... and {len(chosen) - MAX_TASKS} more")
    return "\n".join(lines)


def run_now(reader: RunReader) -> RunFactsNow:
    """Return what a run's files say of it now."""
    status = reader.status()
    history: dict[str, list[tuple[int, Transition]]] = {}
    for change in reader.refresh():
        history.setdefault(change.transition.task, []).append((change.wall_ns, change.transition))
    is_live = status.liveness in (Liveness.RUNNING, Liveness.UNKNOWN)
    if status.liveness is Liveness.DEAD:
        reader.lose_live_tasks()
    if is_live:
        read_progress(reader.state, reader.directory, lambda: reader.plan)
    nodes = NodeWatch(reader.directory)
    nodes.refresh()
    return RunFactsNow(
        state=reader.state,
        history=history,
        now_ns=time.time_ns() if is_live else reader.last_sign_ns(),
        joined=frozenset(nodes.joined),
        lost=nodes.lost,
        is_live=is_live,
        probe_text=probe_text,
    )


def _with_log(reader: RunReader, explanation: Explanation) -> ExplainedTask:
    path = reader.log_path(explanation.task, explanation.rank)
    if not explanation.needs_log or not path.exists():
        return ExplainedTask(explanation=explanation, log=None, log_tail=())
    return ExplainedTask(explanation=explanation, log=str(path), log_tail=tuple(last_lines(path, LOG_LINES)))


def _with_scripts(
    reader: RunReader, explained: list[ExplainedTask], names: Sequence[str]
) -> list[ExplainedTask]:
    """Add what the tasks were started with. Raises: UsageError without names of tasks."""
    if not names:
        raise UsageError.of(
            "missing-task",
            "--script is given without a task",
            hint=f"name one: sflow-ctl explain {display_path(reader.directory)} TASK --script",
        )
    from sflow_ctl.runtime.viewing.started import started_with  # evaluates expressions; few want that

    shown = started_with(reader, [one.explanation.task for one in explained])
    return [
        msgspec.structs.replace(one, started_with=started)
        for one, started in zip(explained, shown, strict=True)
    ]


def _lines(one: ExplainedTask) -> list[str]:
    lines = [one.explanation.headline, *(f"  {reason.text}" for reason in one.explanation.because)]
    if one.log is not None:
        lines.append(
            f"  the end of {display_path(Path(one.log))}:"
            if one.log_tail
            else f"  {display_path(Path(one.log))} is empty"
        )
        lines += [f"    | {line}" for line in one.log_tail]
    if one.started_with is not None:
        lines += [f"  {line}" for line in started_lines(one.started_with)]
    return lines


def _next(reader: RunReader, run: RunFactsNow, ended: Summary | None, chosen: list[str]) -> list[str]:
    """Return the commands that help further."""
    where = display_path(reader.directory)
    started = [name for name in chosen if run.state.tasks[name].attempts]
    logs = [logs_command(where, started[0])] if len(started) == 1 else []
    is_unfinished = not run.is_live and (ended is None or ended.exit_status != 0)
    return [*logs, *(resume_commands(where, workflow_files(reader.facts)) if is_unfinished else [])]
