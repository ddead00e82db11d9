"""`sflow-ctl clean`: deletes runs that have ended."""

import os
import sys
import time
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from protocol.text.sizes import size_text
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.options.run_words import seconds
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.report.looking.cleaning import CleanReport, Removal, choose, removal_table
from sflow_ctl.runtime.catalog.cleaning import delete, removal_of, rests, spools_of
from sflow_ctl.runtime.catalog.overview import run_entry
from sflow_ctl.runtime.record.reader import list_runs


@click.command()
@click.option(
    "--keep", type=click.IntRange(min=0), metavar="N", help="Keep the N newest runs that have ended."
)
@click.option(
    "--older",
    "older_s",
    metavar="TIME",
    callback=seconds,
    help="Delete only runs that ended before, e.g. 30d or 12h.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; deletes only with --yes.")
@output_dir_option
def clean(
    keep: int | None, older_s: float | None, dry_run: bool, yes: bool, as_json: bool, output_dir: Path
) -> int:
    """Delete runs of the output directory that have ended, after showing them and asking.

    A live run, one that may be live, and one that died minutes ago stay, as does one that this version cannot read. With a run
    go its logs, results, and what of its logs is left on this node. --keep and --older together keep what either of them keeps.
    Files that artifacts were fetched to, and the caches of other programs, are not touched.
    """
    if keep is None and older_s is None:
        raise UsageError.of(
            "options", "clean needs --keep or --older", hint="for example: sflow-ctl clean --keep 10"
        )
    now = time.time_ns()
    runs = [run_entry(run) for run in reversed(list_runs(output_dir))]
    chosen, kept = choose(runs, keep or 0, older_s or 0.0, now)
    removals = [removal_of(run) for run in chosen]
    removals += [*spools_of([run.directory for run in chosen], _log_spool()), *rests(output_dir)]
    if not as_json:
        _show(removals, kept, now)
    is_dry = dry_run or not removals or (as_json and not yes)
    if not is_dry and not yes and not _agrees(removals):
        return int(ExitStatus.OK)
    problems: list[str] = []
    done = removals
    if not is_dry:
        done = []
        for removal in removals:
            problem = delete(removal)
            if problem:
                problems.append(problem)
            else:
                done.append(removal)
    if as_json:
        print_json(
            CleanReport(is_dry_run=is_dry, removed=tuple(done), kept=tuple(kept), problems=tuple(problems))
        )
    elif not is_dry:
        print_line(f"deleted {_total(done)}")
        for problem in problems:
            print_line(f"not deleted: {problem}", err=True)
    return int(ExitStatus.INFRASTRUCTURE if problems else ExitStatus.OK)


def _show(removals: list[Removal], kept: list[str], now_ns: int) -> None:
    shown = [_with_short_path(removal) for removal in removals]
    print_table(removal_table(shown, now_ns))
    for line in kept:
        print_line(line)
    if not removals:
        print_line("nothing to delete")


def _with_short_path(removal: Removal) -> Removal:
    from msgspec.structs import replace

    return replace(removal, path=display_path(Path(removal.path)))


def _agrees(removals: list[Removal]) -> bool:
    """Ask whether to delete. Raises: UsageError where there is no terminal to ask on; click.Abort for Ctrl-C."""
    if not sys.stdin.isatty():
        hint = "add --yes to delete, or --dry-run to look"
        raise UsageError.of(
            "not-a-terminal", "clean asks before it deletes, and there is no terminal", hint=hint
        )
    return click.confirm(f"Delete {_total(removals)}?", default=False)


def _total(removals: list[Removal]) -> str:
    runs = sum(removal.kind == "run" for removal in removals)
    others = len(removals) - runs
    more = f" and {counted(others, 'leftover')}" if others else ""
    return f"{counted(runs, 'run')}{more}, {size_text(sum(one.bytes for one in removals))}"


def _log_spool() -> Path | None:
    from sflow_ctl.runtime.files.settings_files import run_settings, settings_layers

    return run_settings(settings_layers({}, os.environ).without_workflow(), Path()).log_spool
