"""`sflow-ctl top`: what the live tasks of a run use now."""

import sys
import time
from pathlib import Path

import click
import msgspec

from protocol.errors import ExitStatus
from sflow_ctl.cli.looking.watching import ShownState, watch
from sflow_ctl.cli.options.completing import complete_runs
from sflow_ctl.cli.options.run_option import output_dir_option, state_text
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.cli.terminal.tables import print_table
from sflow_ctl.core.states import LIVE
from sflow_ctl.report.screen.task_rows import Usage
from sflow_ctl.report.screen.usage import NodeUse, node_line, node_usage, task_usage, usage_table
from sflow_ctl.report.tables import place
from sflow_ctl.report.telemetry.series import Telemetry
from sflow_ctl.runtime.record.reader import Liveness, RunReader, find_run
from sflow_ctl.runtime.telemetry.reader import read_newest


class LiveTaskUse(msgspec.Struct, frozen=True, kw_only=True):
    """One live task of `top --json`. A value is null where it is not measured."""

    task: str
    """The concrete task."""
    cpu_percent: float | None
    """Of one CPU, over all its processes and nodes."""
    memory_bytes: int | None
    """Resident memory of all its processes."""
    gpu_percent: float | None
    """How busy its GPUs are on average."""
    gpu_memory_bytes: int | None
    """Memory of GPUs that its processes hold."""


class TopReport(msgspec.Struct, frozen=True, kw_only=True):
    """`top --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    run_id: str
    """The id of the run."""
    text: str
    """The state of the run as a sentence."""
    tasks: tuple[LiveTaskUse, ...]
    """Those that are live."""
    nodes: tuple[NodeUse, ...]
    """The nodes that were measured."""


@click.command()
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--once", is_flag=True, help="Print it once; the default where the output is not a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once.")
@output_dir_option
def top(run: str | None, once: bool, as_json: bool, output_dir: Path) -> int:
    """Show what the live tasks of a run use: CPU, memory, GPUs; again each second until the run has ended.

    RUN is a run directory, a run id or the beginning of one. Default: the newest live run, else the newest. CPU is in percent of
    one CPU. The figures are those that agents measure each second: settings.telemetry.
    """
    directory = find_run(run, output_dir, prefers_live=True)
    reader = RunReader(directory)
    reader.begin_from_snapshot()
    if as_json or once or not sys.stdout.isatty():
        _shown(reader, as_json, None)
    else:
        shown = ShownState(in_place=True)
        watch(lambda: _shown(reader, False, shown))
    return int(ExitStatus.OK)


def _shown(reader: RunReader, as_json: bool, shown: ShownState | None) -> bool:
    """Print what is used now; return whether the run is live."""
    reader.refresh()
    ended = reader.summary()
    is_live = ended is None and reader.status().liveness is not Liveness.DEAD
    if not is_live:
        reader.lose_live_tasks()
    newest = read_newest(reader.directory) if is_live else Telemetry()
    usage = task_usage(reader.state, newest, time.time_ns() // 1_000_000)
    nodes = node_usage(newest)
    if as_json:
        tasks = tuple(_task_use(name, one) for name, one in usage.items())
        print_json(
            TopReport(
                run_id=reader.facts.run_id, text=state_text(reader, ended), tasks=tasks, nodes=tuple(nodes)
            )
        )
        return is_live
    if shown is not None:
        shown.begins(None)
    print_line(state_text(reader, ended))
    for node in nodes:
        print_line(node_line(node))
    planned = {task.name: task for task in reader.plan.tasks}
    live = [record for record in reader.state.tasks.values() if record.state in LIVE]
    places = {one.name: place(one, reader.plan, planned[one.name].node_count)[0] for one in live}
    print_table(usage_table(reader.state, usage, places))
    if live and not usage:
        print_line("nothing was measured in the last seconds: is telemetry switched off in the settings?")
    return is_live


def _task_use(name: str, usage: Usage) -> LiveTaskUse:
    return LiveTaskUse(
        task=name,
        cpu_percent=usage.cpu_percent,
        memory_bytes=usage.memory_bytes,
        gpu_percent=usage.gpu_percent,
        gpu_memory_bytes=usage.gpu_memory_bytes,
    )
