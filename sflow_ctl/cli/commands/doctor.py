"""`sflow-ctl doctor`: are these nodes fit for a run?"""

import os
import sys
from pathlib import Path

import click
import msgspec

from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.terminal.paint import wants_colours
from sflow_ctl.doctor.diagnosis import diagnose, text
from sflow_ctl.runtime.files.settings_files import run_settings, settings_layers
from sflow_ctl.runtime.run.options import FleetOptions

_POSITIVE = click.IntRange(min=1)


@click.command()
@click.option(
    "--nodes", type=_POSITIVE, help="Inspect this machine by this many local agents, also inside a job."
)
@click.option("--jobid", "job_id", metavar="ID", help="Inspect the nodes of this running Slurm job.")
@click.option(
    "--gpus-per-node", type=_POSITIVE, help="GPUs that each node must have. Default: what Slurm has given."
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    help="Where run directories would go. Default: as for a run.",
)
@click.option("--interface", help="In a job: the network interface that agents call. Default: all of them.")
@click.option("--join-within", metavar="TIME", help="How long agents may take to report. Default: 60.")
@click.option("-v", "--verbose", is_flag=True, help="Every fact, not only what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="For programs: all facts and findings.")
def doctor(
    nodes: int | None,
    job_id: str | None,
    gpus_per_node: int | None,
    output_dir: Path | None,
    interface: str | None,
    join_within: str | None,
    verbose: bool,
    as_json: bool,
) -> int:
    """Inspect the nodes of this Slurm job, or this machine: network, clocks, CPUs, GPUs, limits, directories, versions.

    Starts agents as `run` does, and nothing else. Exit status 0 when nothing fails, 1 when something does, 3 when
    agents do not report.
    """
    from sflow_ctl.runtime.fleet.inspection import examine

    given = {"interface": interface, "join_within": join_within}
    said = {name: value for name, value in given.items() if value is not None}
    if output_dir is not None:
        said["output_dir"] = str(absolute(output_dir))
    settings = run_settings(settings_layers(said, os.environ).without_workflow(), Path.cwd())
    # Nodes that have reported can be examined whatever the others do: min_nodes=1.
    options = FleetOptions(nodes=nodes, min_nodes=1, job_id=job_id)
    allocation = slurm = None
    if nodes is None:
        from sflow_ctl.runtime.slurm.allocation import allocation_of, current_allocation

        allocation = current_allocation(os.environ) if job_id is None else allocation_of(job_id)
    if allocation is not None:
        from sflow_ctl.runtime.slurm.facts import slurm_facts

        slurm = slurm_facts(allocation)
    diagnosis = diagnose(examine(options, settings, allocation, slurm, gpus_per_node))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(diagnosis), indent=1))
    else:
        click.echo(text(diagnosis, verbose, wants_colours(sys.stdout.isatty(), os.environ)))
    return diagnosis.exit_status
