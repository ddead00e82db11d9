"""`sflow-ctl bundle`: one file about a run, for a bug report."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus, FleetError, UsageError
from protocol.text.sizes import size_text
from sflow_ctl.cli.looking.explain import explained_text
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.file_to_write import FileToWrite
from sflow_ctl.cli.options.run_option import output_dir_option
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.report.run_view import FAILURES
from sflow_ctl.runtime.catalog.bundle import Bundle, add_logs, add_record, learn_secrets, tasks_of_directory
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.version import VERSION

_LIBRARIES = ("click", "msgspec", "pyzmq", "PyYAML", "Jinja2", "psutil", "nvidia-ml-py", "rich")


class BundleReport(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    path: str
    """The file that was written, absolute."""
    bytes: int
    """Its size."""
    files: tuple[str, ...]
    """What is in it."""
    left_out: tuple[str, ...]
    """What could not be read, and why."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option(
    "-o",
    "--output",
    type=FileToWrite(path_type=Path),
    metavar="FILE",
    help="Default: sflow-bundle-RUN.tar.gz",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@output_dir_option
def bundle(run: str | None, output: Path | None, as_json: bool, output_dir: Path) -> int:
    """Pack a run for a bug report: causes, ends of logs, plan, journal, facts of nodes, versions.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. Values of declared
    secrets, and what looks like a password or token, are masked; names of hosts, users, paths and models are not. Look through
    it before you send it.
    """
    directory = find_run(run, output_dir, prefers_live=True)
    top = f"sflow-bundle-{directory.name}"
    target = output or Path(f"{top}.tar.gz")
    packed = Bundle()
    try:
        reader = RunReader(directory)
        learn_secrets(reader.plan)
        text = explained_text(reader)
        failed = [name for name, record in reader.state.tasks.items() if record.state in FAILURES]
        rest = [name for name in reader.state.tasks if name not in set(failed)]
        tasks = [*failed, *rest]
    except FleetError as error:
        text, tasks = f"the run cannot be read: {error}", tasks_of_directory(directory)
    add_record(packed, directory)
    add_logs(packed, directory, tasks)
    packed.add("explain.txt", text + "\n")
    packed.add(
        "about.txt", "\n".join([*_about(directory), *(f"left out: {one}" for one in packed.problems)]) + "\n"
    )
    try:
        size = packed.write(target, top)
    except FileExistsError as error:
        hint = "delete it, or name another one with -o"
        raise UsageError.of("file-exists", f"{target} exists already", hint=hint) from error
    except OSError as error:
        target.unlink(missing_ok=True)
        what = f"{target} cannot be written: {error.strerror}"
        raise UsageError.of("file-not-writable", what, hint="name another one with -o") from error
    if as_json:
        print_json(
            BundleReport(
                run_id=directory.name,
                path=str(target.absolute()),
                bytes=size,
                files=tuple(packed.files),
                left_out=tuple(packed.problems),
            )
        )
        return int(ExitStatus.OK)
    for problem in packed.problems:
        print_line(f"left out: {problem}", err=True)
    print_line(
        f"{display_path(target)}: {len(packed.files)} files, {size_text(size)}. Look through it before you send it."
    )
    return int(ExitStatus.OK)


def _about(directory: Path) -> Iterator[str]:
    """Yield lines about the versions, and this machine."""
    yield f"run: {directory.absolute()}"
    yield f"sflow-ctl {VERSION}, Python {platform.python_version()} ({sys.executable})"
    yield f"packed on {platform.node()}: {platform.platform()}"
    for name in _LIBRARIES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield f"{name} is not installed"
