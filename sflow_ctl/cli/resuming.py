"""`run --resume RUN`, and runs of a Slurm job that was requeued: the options for going on in their directory."""

import dataclasses
from pathlib import Path

import click

from protocol.errors import UsageError
from sflow_ctl.runtime.options import RunOptions
from sflow_ctl.runtime.resume import requeued_run
from sflow_ctl.runtime.run_files import find_run


def resumed(options: RunOptions, wanted: str | None) -> RunOptions:
    """The options of the run that `wanted` names, or that this job did before it was requeued; else as they are.

    Raises: UsageError.
    """
    if wanted is None:
        directory = requeued_run(options.output_dir, options.run_id)
        if directory is None:
            return options
        click.echo(f"sflow-ctl: this job was requeued: going on with {directory}", err=True)
    elif options.run_id is not None:
        raise UsageError.of("options", "--run-id is for a new run, --resume for an old one", hint="use one")
    else:
        directory = find_run(wanted, options.output_dir)
    directory = directory.absolute()
    files = options.files if options.are_files_given else (directory / "workflow.yaml",)
    return dataclasses.replace(
        options, resume=directory, files=files, run_id=directory.name, output_dir=Path(directory.parent)
    )
