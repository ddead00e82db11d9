"""`sflow-ctl doctor`: inspects nodes before a run."""

import os
import sys
from pathlib import Path

import click

from sflow_ctl.cli.one_of_many import stands_by
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.terminal.lines import print_coloured, print_json
from sflow_ctl.cli.terminal.paint import wants_colours
from sflow_ctl.doctor.diagnosis import diagnose, text
from sflow_ctl.runtime.files.settings_files import run_settings, settings_layers
from sflow_ctl.runtime.run.options import FleetOptions

_POSITIVE = click.IntRange(min=1)


@click.command()
@click.option(
    "--nodes",
    type=_POSITIVE,
    help="Inspect this machine with N local agents, even inside a Slurm job.",
    metavar="N",
)
@click.option("--jobid", "job_id", metavar="ID", help="Inspect the nodes of this running Slurm job.")
@click.option(
    "--gpus-per-node",
    type=_POSITIVE,
    help="Number of GPUs that each node must have. Default: those that Slurm granted.",
    metavar="N",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    help="Parent of run directories, checked for space and speed. Default: as for a run.",
)
@click.option(
    "--interface",
    help="In a Slurm job: network interface on which agents reach the controller. Default: any.",
)
@click.option(
    "--join-within", metavar="TIME", help="How long to wait for all agents to connect. Default: 60 s."
)
@click.option("-v", "--verbose", is_flag=True, help="Print every fact, not only problems.")
@click.option("--json", "as_json", is_flag=True, help="Print all facts and findings as JSON.")
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
    """Inspect the nodes of this Slurm job, or this machine, before a run.

    Checks network, clocks, CPUs, memory, GPUs, limits, directories and versions. Starts agents as `run` does, and no
    tasks. Exit status: 0 without failures, 1 with a failure, 3 if an agent does not connect.
    """
    if stands_by():
        return 0
    from sflow_ctl.runtime.fleet.inspection import examine

    given = {"interface": interface, "join_within": join_within}
    said = {name: value for name, value in given.items() if value is not None}
    if output_dir is not None:
        said["output_dir"] = str(absolute(output_dir))
    settings = run_settings(settings_layers(said, os.environ).without_workflow(), Path.cwd())
    # Nodes that have reported can be examined even if others do not: min_nodes=1.
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
        print_json(diagnosis)
    else:
        print_coloured(text(diagnosis, verbose, wants_colours(sys.stdout.isatty(), os.environ)))
    return diagnosis.exit_status
