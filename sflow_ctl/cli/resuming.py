"""The options of `run --resume RUN`, and of a Slurm job that was requeued: those of the run that it resumes."""

import os
from pathlib import Path

import msgspec

from protocol.errors import UsageError
from sflow_ctl.cli.options.paths import absolute
from sflow_ctl.cli.options.run_option import changed_lines
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_line
from sflow_ctl.runtime.files.settings_files import OUTPUT_DIRECTORY, output_directory, settings_layers
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.reader import RunReader, find_run
from sflow_ctl.runtime.resuming.requeued import requeued_run
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.remembered import options_text, recall


def resumed(options: RunOptions, wanted: str | None) -> RunOptions:
    """Return the options of the run that `wanted` names, or that this job had begun before it was requeued.

    Else `options` unchanged.

    Raises: UsageError.
    """
    output_dir = output_dir_of(options)
    if wanted is None:
        directory = requeued_run(output_dir, options.run_id)
        if directory is None:
            return options
        print_line(f"sflow-ctl: this job was requeued: resuming {directory}", err=True)
    elif options.run_id is not None:
        raise UsageError.of("options", "--run-id is for a new run, --resume for an old one", hint="use one")
    else:
        directory = find_run(wanted, output_dir)
    return _continued(options, absolute(directory))


def replayed(options: RunOptions, reader: RunReader) -> RunOptions:
    """Return the options of a new run with the plan of another one. Raises: UsageError."""
    again = _continued(options, absolute(reader.directory))
    return msgspec.structs.replace(again, resume=None, run_id=options.run_id)


def output_dir_of(options: RunOptions) -> Path:
    """Return the parent of run directories that options and settings name. Raises: SpecError."""
    layers = settings_layers(options.workflow.settings, os.environ)
    return output_directory(layers.without_workflow(), options.workflow.workspace_dir / OUTPUT_DIRECTORY)


def _continued(options: RunOptions, directory: Path) -> RunOptions:
    """Return the options completed by those of the run in a directory, which is resumed. Raises: UsageError."""
    source = options.workflow
    files = source.files if source.are_files_given else (directory / layout.WORKFLOW,)
    facts = RunReader(directory).facts
    kept = facts.options
    if not source.are_files_given:
        for line in changed_lines(facts, display_path(directory)):
            print_line(f"sflow-ctl: {line}", err=True)
    recalled = recall(options, kept, directory)
    text = options_text(kept)
    if text:
        print_line(f"sflow-ctl: options of the run: {text}", err=True)
    return msgspec.structs.replace(
        recalled,
        resume=directory,
        run_id=directory.name,
        workflow=msgspec.structs.replace(recalled.workflow, files=files),
    )
