"""`sflow-ctl apply`: continues a live run with another workflow; and what `scale` has in common with it."""

from pathlib import Path
from typing import Any

import click
import msgspec

from protocol.errors import ExitStatus, UsageError
from sflow_ctl.cli.options.completing import complete_words
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import again_options
from sflow_ctl.cli.steering.target import target_run
from sflow_ctl.cli.terminal.fetch_lines import FetchLines
from sflow_ctl.cli.terminal.findings import print_warnings
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.core.requests import Effect
from sflow_ctl.plan.revisions.comparing import Kind
from sflow_ctl.report.revision_text import change_lines
from sflow_ctl.runtime.operating.client import Way, ask, check_accepted, check_alive
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.revising.files import withdraw_plan
from sflow_ctl.runtime.revising.new_secrets import offered
from sflow_ctl.runtime.revising.proposal import Proposal, leave, proposal
from sflow_ctl.runtime.run.options import RunOptions

RESUME_INSTEAD = "sflow-ctl run WORKFLOW --resume RUN continues it with a changed file"


class TaskChange(msgspec.Struct, frozen=True, kw_only=True):
    """What another plan makes of a task."""

    task: str
    """The concrete task."""
    change: Kind
    """`changed` and `dependent` ones start again, `updated` ones continue with other rules."""
    why: tuple[str, ...] = ()
    """Each difference as a sentence without its subject."""
    needs: str = ""
    """Of a dependent one: the task that it needs, and that starts again."""


class ApplyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `apply` and `scale` print with `--json`. A refused request is an error on standard error instead."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    base: int
    """The number of the revision that was compared with."""
    revision: int
    """The number of the revision that this makes; that of `base` if nothing changes."""
    is_dry_run: bool
    """Nothing was asked for."""
    tasks: tuple[TaskChange, ...]
    """Every task of the new plan, then those that it does not have."""
    workflow: tuple[str, ...]
    """Fields of the workflow that are others for the run as a whole."""
    staying: tuple[str, ...]
    """Fields that the file has changed, and the run keeps until it is resumed."""
    request: str = ""
    """The id of the request, as in the journal; empty if nothing was asked for."""
    way: Way | None = None
    """How it came to the controller."""
    text: str = ""
    """What happens to the run as a whole."""
    effects: tuple[Effect, ...] = ()
    """What happens to each task that is not left alone."""


@click.command(cls=SectionedCommand)
@click.argument("words", nargs=-1, required=True, metavar="[RUN] WORKFLOW...", shell_complete=complete_words)
@again_options
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply(words: tuple[str, ...], dry_run: bool, as_json: bool, **others: Any) -> int:
    """Continue a live run with another workflow: what it changes starts again, what is new starts, what is gone is stopped.

    RUN is a run directory, a run id or the beginning of one. Default: the only live run. The options and values that the run
    began with hold, unless they are given again. Tasks that have not changed keep their processes, GPUs and ports, whatever
    they are; what needs a task that starts again does so as well. Nodes and backends cannot change. Does not wait for the
    tasks: sflow-ctl wait does.
    """
    options = run_options(workflow=(), **others)
    reader, files = _run_and_files(words, options)
    given = (*files, *options.workflow.files) if others["files"] else files
    source = msgspec.structs.replace(options.workflow, files=given, are_files_given=True)
    found = proposed(reader, msgspec.structs.replace(options, workflow=source))
    return carry_out(found, is_dry=dry_run, as_json=as_json)


def _run_and_files(words: tuple[str, ...], options: RunOptions) -> tuple[RunReader, tuple[Path, ...]]:
    """Return the run and the workflow files that the words name. Raises: UsageError."""
    from sflow_ctl.cli.resuming import output_dir_of

    output_dir = output_dir_of(options)
    first, rest = words[0], words[1:]
    if Path(first).is_file() and not (Path(first) / ".sflow").exists():
        return target_run(None, output_dir), tuple(map(Path, words))
    if not rest and not options.workflow.are_files_given:
        hint = "sflow-ctl apply RUN wf.yaml"
        raise UsageError.of("no-workflow", f"no workflow file is named for {first}", hint=hint)
    return target_run(first, output_dir), tuple(map(Path, rest))


def proposed(reader: RunReader, options: RunOptions) -> Proposal:
    """Return what a workflow would change in a live run. Raises: FleetError."""
    check_alive(reader, RESUME_INSTEAD)
    return proposal(reader, options)


def carry_out(found: Proposal, *, is_dry: bool, as_json: bool) -> int:
    """Show what would change, and have the run do it; return the exit status. Raises: FleetError."""
    if not as_json:
        if found.plan.warnings:
            print_warnings(found.plan.warnings)
        _print_changes(found, is_dry=is_dry)
    report = _report(found, is_dry=is_dry)
    if not is_dry and not found.is_same:
        report = _asked(found, report)
        if not as_json:
            print_line(report.text)
    if as_json:
        print_json(report)
    return int(ExitStatus.OK)


def _print_changes(found: Proposal, *, is_dry: bool) -> None:
    run, base = found.reader.facts.run_id, found.base.revision
    if found.is_same:
        print_line(f"{run}: nothing changes, revision {base} stays")
        return
    print_line(f"{run}, revision {base} to {base + 1}{' (dry run)' if is_dry else ''}:")
    for line in change_lines(found.changes, found.of_run, found.staying):
        print_line(line)


def _report(found: Proposal, *, is_dry: bool) -> ApplyReport:
    reader, base = found.reader, found.base.revision
    return ApplyReport(
        run_id=reader.facts.run_id,
        directory=str(reader.directory.absolute()),
        base=base,
        revision=base if found.is_same else base + 1,
        is_dry_run=is_dry,
        tasks=tuple(
            TaskChange(task=one.task, change=one.kind, why=one.why, needs=one.needs)
            for one in found.changes.values()
        ),
        workflow=tuple(found.of_run),
        staying=tuple(found.staying),
    )


def _asked(found: Proposal, report: ApplyReport) -> ApplyReport:
    """Have the run apply the plan; return the report with its answer. Raises: UsageError if it refuses."""
    action = leave(found, FetchLines)
    replied = ask(found.reader, action, secrets=offered(found.plan, found.base))
    if replied.answer.error:
        withdraw_plan(found.reader.directory, action.source)
    check_accepted(found.reader, replied.answer)
    answer = replied.answer
    return msgspec.structs.replace(
        report,
        request=replied.id,
        way=replied.way,
        text=answer.text,
        effects=answer.effects,
        revision=answer.revision or report.revision,
    )
