"""`sflow-ctl status`: the state of a run and of each task."""

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import click
import msgspec

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.closing import print_cause
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.query_option import query_option
from sflow_ctl.cli.options.run_option import changed_lines, output_dir_option, resume_lines, state_text
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import json_line, print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import Outcome
from sflow_ctl.report.resumed import agent_restart_text, takeover_text
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, TaskSummary, task_summaries, view_of
from sflow_ctl.report.tables import ended_table, shown_tasks, status_table
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.viewing.client import Current, Ended, connect
from sflow_ctl.runtime.viewing.messages import Change
from sflow_ctl.runtime.viewing.progress import read_progress

if TYPE_CHECKING:
    from sflow_ctl.cli.looking.watching import ShownState

STATE_WITHIN_S = 2.0


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """`status --json`. `outcome` and `exit_status` are null until the run has ended in order."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    liveness: Liveness
    """`running`, `ended`, `dead`: its controller has ended without a result, or `unknown`: it is silent."""
    controller: str
    """The controller, as a sentence."""
    is_from_controller: bool
    """The states are from the controller itself, else from the run's files."""
    outcome: Outcome | None
    """How the run ended."""
    exit_status: int | None
    """Of `sflow-ctl run`."""
    started_wall_ns: int
    """When it began or was last resumed, in ns since 1970."""
    ended_wall_ns: int | None
    """When it ended; null until it has ended in order."""
    standing_still: dict[str, str]
    """What holds up the agents that make no progress, by the names of their nodes."""
    paused_by: str
    """Who has paused the run; empty while it is not."""
    counts: dict[str, int]
    """The number of tasks in each state."""
    problems: tuple[str, ...] = ()
    """What of the run's journal could not be read."""
    tasks: tuple[TaskSummary, ...]
    """All tasks, as in `summary.json`."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON; with --watch one line whenever it has changed."
)
@click.option(
    "-w", "--watch", "is_watching", is_flag=True, help="Show it again each second until the run has ended."
)
@click.option(
    "-n",
    "--numbers",
    "is_numbered",
    is_flag=True,
    help="Show the number of each task, for sflow-ctl replay --index.",
)
@click.option(
    "-v",
    "--verbose",
    "is_verbose",
    is_flag=True,
    help="Show also what attempts have continued from, and why.",
)
@query_option
@click.option(
    "--fail-if-empty",
    "must_find",
    is_flag=True,
    help="Exit with status 1 if --query matches no task.",
)
@output_dir_option
def status(
    run: str | None,
    as_json: bool,
    is_watching: bool,
    is_numbered: bool,
    is_verbose: bool,
    queries: tuple[str, ...],
    must_find: bool,
    output_dir: Path,
) -> int:
    """Show the state of a run and of each task.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. With --watch a
    terminal shows the present state in place of the one before; a pipe or file gets it again whenever a task has changed.
    """
    if must_find and not queries:
        raise UsageError.of("options", "--fail-if-empty needs --query", hint="add --query, e.g. state=failed")
    directory = find_run(run, output_dir, prefers_live=True)
    if queries or is_numbered:
        from sflow_ctl.cli.looking.chosen_status import print_chosen  # all tasks are shown, as a rule

        return print_chosen(
            RunReader(directory),
            queries,
            as_json=as_json,
            is_watching=is_watching,
            is_numbered=is_numbered,
            is_verbose=is_verbose,
            must_find=must_find,
        )
    if is_watching:
        from sflow_ctl.cli.looking.watching import ShownState, watch  # the state is shown once, as a rule

        watched = ShownState(in_place=not as_json)
        watch(lambda: _shown(RunReader(directory), as_json, watched, is_verbose=is_verbose))
    else:
        gc.disable()  # a short process: of 100,000 tasks each collection would take a tenth of its time
        _shown(RunReader(directory), as_json, is_verbose=is_verbose)
    return int(ExitStatus.OK)


def _shown(
    reader: RunReader, as_json: bool, watched: "ShownState | None" = None, *, is_verbose: bool = False
) -> bool:
    """Print the state of a run; return whether it may still change."""
    ended = reader.summary()
    if _is_completed(ended):
        reader.state = view_of(ended, reader.head)  # a tenth of the time of reading the journal
    else:
        reader.begin_from_snapshot(is_brief=True)
        reader.refresh()
    liveness = reader.status()
    is_live = ended is None and liveness.liveness is Liveness.UNKNOWN and _ask_controller(reader)
    is_dead = ended is None and liveness.liveness is Liveness.DEAD
    if is_dead:
        reader.lose_live_tasks()
    may_change = ended is None and not is_dead
    if may_change:
        read_progress(reader.state, reader.directory, lambda: reader.plan)
    if watched is not None:
        now = (
            may_change,
            [
                (one.name, one.state, one.attempts, one.waits_for, one.progress)
                for one in reader.state.tasks.values()
            ],
        )
        if not watched.begins(now):
            return may_change
    if as_json:
        _print_json(reader, ended, is_live, is_line=watched is not None)
        return may_change
    _print_for_people(reader, ended, is_live=is_live, is_dead=is_dead)
    if is_verbose:
        print_checkpoints(reader.state)
    return may_change


def _print_for_people(reader: RunReader, ended: Summary | None, *, is_live: bool, is_dead: bool) -> None:
    """Print the state as a table, with what to know about it."""
    cause = ended.cause.task if ended is not None and ended.cause is not None else None
    reader.with_tasks(shown_tasks(reader.state) | ({cause} if cause is not None else set()))
    source = "from its controller" if is_live else f"from {display_path(reader.directory)}"
    print_line(f"{state_text(reader, ended)} ({source})")
    for takeover in reader.takeovers if ended is None else ended.takeovers:
        print_line(takeover_text(takeover))
    if reader.state.paused_by and ended is None:
        print_line(f"paused by {reader.state.paused_by}: nothing new starts until sflow-ctl unpause")
    for restart in () if ended is None else ended.agent_restarts:
        print_line(agent_restart_text(restart))
    for problem in reader.journal.problems():
        print_line(f"warning: {problem}")
    if not _is_completed(ended):
        for line in changed_lines(reader.facts, display_path(reader.directory)):
            print_line(line)
    if ended is not None:
        print_table(ended_table(reader.state, but=cause))
        print_cause(reader.state, ended, reader.directory)
    else:
        print_table(status_table(reader.state, reader.last_sign_ns() if is_dead else time.time_ns()))
        if is_dead:
            print_line("\n".join(resume_lines(reader)))
        for node, doing in () if is_dead else reader.standing_still.items():
            print_line(f"node {node}: its agent stands still in {doing}; its tasks run on")


def print_checkpoints(state: RunView) -> None:
    """Print what attempts have continued from, and why."""
    from sflow_ctl.report.checkpoint_text import choice_lines  # few tasks have any

    for record in state.tasks.values():
        for line in choice_lines(record.name, record.checkpoints):
            print_line(line)


def _is_completed(ended: Summary | None) -> TypeGuard[Summary]:
    return ended is not None and ended.outcome is Outcome.COMPLETED


def _ask_controller(reader: RunReader) -> bool:
    """Update the state through the socket; return False if the controller does not answer."""
    facts = reader.connection()
    link = connect(facts) if facts is not None else None
    if link is None:
        return False
    state = RunView(reader.plan, paused_by=reader.state.paused_by)
    deadline = time.monotonic() + STATE_WITHIN_S
    try:
        while time.monotonic() < deadline:
            for event in link.receive(deadline - time.monotonic()):
                if isinstance(event, Change):
                    state.apply(event.transition, event.wall_ns)
                elif isinstance(event, Current):
                    for record in reader.state.tasks.values():  # the socket sends changes of state only
                        state.note_waiting(record.name, record.attempts, record.waits_for)
                        if record.uploaded is not None:
                            state.note_uploaded(record.name, record.attempts, record.uploaded)
                        state.tasks[record.name].checkpoints = record.checkpoints
                        if record.uploads:
                            state.note_waiting(record.name, record.attempts, record.uploads, "uploads")
                    reader.state = state
                    return True
                elif isinstance(event, Ended):
                    return False
    finally:
        link.close()
    return False


def _print_json(reader: RunReader, ended: Summary | None, is_live: bool, *, is_line: bool) -> None:
    status_now = reader.status()
    report = StatusReport(
        run_id=reader.facts.run_id,
        directory=str(reader.directory.absolute()),
        liveness=status_now.liveness,
        controller=status_now.text,
        is_from_controller=is_live,
        outcome=ended.outcome if ended is not None else None,
        exit_status=ended.exit_status if ended is not None else None,
        started_wall_ns=reader.facts.started_wall_ns,
        ended_wall_ns=ended.ended_wall_ns if ended is not None else None,
        standing_still=reader.standing_still,
        paused_by="" if ended is not None else reader.state.paused_by,
        counts={word.value: count for word, count in reader.state.counts().items()},
        problems=(*reader.journal.problems(),),
        tasks=ended.tasks if _is_completed(ended) else task_summaries(reader.state),
    )
    if is_line:
        print_line(json_line(report))
    else:
        print_json(report)
