"""`sflow-ctl collect`: the files of outputs in one directory."""

from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.handover.choosing import chosen_outputs
from sflow_ctl.cli.options.completing import complete_runs, complete_tasks
from sflow_ctl.cli.options.query_option import query_option
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.runtime.handover.collecting import MANIFEST
from sflow_ctl.runtime.handover.collecting import collect as collect_files


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.argument("tasks", nargs=-1, metavar="[TASK]...", shell_complete=complete_tasks)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for the files, TASK/OUTPUT/FILE, and for manifest.json. It is made.",
)
@click.option(
    "--name", "names", multiple=True, metavar="PATTERN", help="Only outputs of this name; repeatable."
)
@query_option
@click.option(
    "--link/--copy", "links", help="Hard links where the file system has them, or copies, the default."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@output_dir_option
def collect(
    run: str | None,
    tasks: tuple[str, ...],
    target: Path,
    names: tuple[str, ...],
    queries: tuple[str, ...],
    links: bool,
    as_json: bool,
    output_dir: Path,
) -> int:
    """Collect the files of outputs of tasks that have completed, and write a manifest with sizes, digests and values.

    RUN is a run directory, a run id or the beginning of one; live, ended or died. Default: the newest live run, else the newest.
    Digests are checked first. A file that is there already is kept if it is the same; with another content nothing is collected.
    """
    reader, found = chosen_outputs(run, tasks, queries, names, output_dir)
    if not found:
        raise UsageError.of(
            "nothing-collected",
            "no task with outputs has completed",
            hint="sflow-ctl outputs RUN lists outputs",
        )
    try:
        done = collect_files(found, target, reader.facts.run_id, reader.directory.absolute(), links=links)
    except OSError as error:
        what = f"{error.filename or target} cannot be written: {error.strerror or error}"
        raise UsageError.of("file-not-writable", what, hint="name another directory with --to") from error
    if as_json:
        print_json(done.manifest)
        return int(ExitStatus.OK)
    notes = [f"{done.there} there already"] if done.there else []
    notes += [f"{done.copied} copied, as they could not be linked"] if done.copied else []
    more = f" ({', '.join(notes)})" if notes else ""
    count = counted(done.new + done.there, "file")
    print_line(
        f"✓ Collected {counted(len(found), 'output')}, {count}{more}: {display_path(target / MANIFEST)}"
    )
    return int(ExitStatus.OK)
