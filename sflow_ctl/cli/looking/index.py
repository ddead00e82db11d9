"""`sflow-ctl index`: the database of what lists over many runs need."""

import os
from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.runtime.catalog.overview import all_places
from sflow_ctl.runtime.index.opening import needed_index
from sflow_ctl.runtime.index.runs import refreshed


@click.group()
def index() -> None:
    """Maintain the index of runs, which the setting `index: sqlite` asks for.

    It is a copy of what run directories have: lists read only runs that have changed since. Deleting it loses nothing.
    """


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def refresh(as_json: bool, output_dir: Path) -> int:
    """Read all runs that have changed, with their tasks, so that the next list is fast."""
    return _refresh(output_dir, as_json=as_json, is_new=False)


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def rebuild(as_json: bool, output_dir: Path) -> int:
    """Discard the index, and read all runs again."""
    return _refresh(output_dir, as_json=as_json, is_new=True)


def _refresh(output_dir: Path, *, as_json: bool, is_new: bool) -> int:
    from sflow_ctl.runtime.index.database import UnusableIndexError

    try:
        with needed_index(os.environ) as opened:
            if is_new:
                opened.clear()
            done = refreshed(opened, all_places(output_dir), with_tasks=True)
            path = opened.path
    except UnusableIndexError as error:
        raise UsageError.of(
            "no-index", str(error), hint="try again; deleting the file loses nothing"
        ) from error
    if as_json:
        print_json({"version": 1, "path": str(path), "runs": len(done.runs), "read": done.read})
    else:
        print_line(f"✓ {counted(len(done.runs), 'run')} in {display_path(path)}, {done.read} read anew")
    return int(ExitStatus.OK)
