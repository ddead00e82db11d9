"""`sflow-ctl report`: one file about a run, or about what differs between two, as HTML or JSON."""

from pathlib import Path

import click

from protocol.errors import ExitStatus, UsageError
from protocol.text.sizes import size_text
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.file_to_write import FileToWrite
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line, write
from sflow_ctl.report.run_report.comparing import RunComparison
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.reporting.reading import comparison_of, report_of
from sflow_ctl.runtime.reporting.writing import comparison_page_of, json_of, page_of, write_report


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.argument("run2", required=False, shell_complete=complete_runs)
@click.option(
    "--json", "as_json", is_flag=True, help="Write the same as JSON, to standard output without -o."
)
@click.option(
    "-o",
    "--output",
    type=FileToWrite(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Default: sflow-report-RUN.html, or sflow-report-RUN-RUN2.html. An existing file is replaced; - is standard output.",
)
@output_dir_option
def report(run: str | None, run2: str | None, as_json: bool, output: Path | None, output_dir: Path) -> int:
    """Make one HTML file about a run: its first cause, timeline, critical path, use of nodes and GPUs, results.

    RUN is a run directory, a run id or the beginning of one; live, ended or died. Default: the newest live run, else the newest.
    With RUN2 the file shows what differs between both: configuration, results, tasks. The file needs no network and no other
    file. Values of declared secrets, and what looks like a password or token, are masked.
    """
    left = RunReader(find_run(run, output_dir, prefers_live=True))
    right = None if run2 is None else RunReader(find_run(run2, output_dir))
    names = "-".join(one.directory.resolve().name for one in (left, right) if one is not None)
    if as_json and output is None:
        print_json(_made(left, right))
        return int(ExitStatus.OK)
    content = _content(left, right, as_json)
    target = output or Path(f"sflow-report-{names}.html")
    if str(target) == "-":
        write(content.decode(), nl=False)
        return int(ExitStatus.OK)
    try:
        write_report(target, content)
    except OSError as error:
        what = f"{target} cannot be written: {error.strerror or error}"
        raise UsageError.of("file-not-writable", what, hint="name another one with -o") from error
    print_line(f"{display_path(target)}: {size_text(len(content))}")
    return int(ExitStatus.OK)


def _made(left: RunReader, right: RunReader | None) -> RunReport | RunComparison:
    if right is None:
        return report_of(left, display_path(left.directory))
    return comparison_of(left, right, display_path)


def _content(left: RunReader, right: RunReader | None, as_json: bool) -> bytes:
    made = _made(left, right)
    if as_json:
        return json_of(made)
    return comparison_page_of(made) if isinstance(made, RunComparison) else page_of(made)
