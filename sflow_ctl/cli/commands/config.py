"""`sflow-ctl config`: the effective settings, and the file or option that each comes from."""

import os
from typing import Any

import click
import msgspec

from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.setting_options import job_setting_options, run_setting_options
from sflow_ctl.cli.options.workflow_options import file_options
from sflow_ctl.cli.terminal.lines import print_document, print_json

JSON_VERSION = 1
"""The version of the output of `config show --json`."""


@click.group()
def config() -> None:
    """Show the effective settings of site, user, workflow and command line."""


@config.command(cls=SectionedCommand)
@file_options
@job_setting_options
@run_setting_options
@click.option("--origin", is_flag=True, help="Also print the source of each value.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(origin: bool, as_json: bool, **others: Any) -> int:
    """Print the effective settings in the format of a site file.

    With workflow files and options: the settings of a run with these.
    """
    from sflow_ctl.runtime.files.settings_files import settings_layers
    from sflow_ctl.runtime.run.planning import read_run

    has_workflow = others["workflow"] or others["files"]
    options = run_options(nodes=None, gpus_per_node=None, **others)
    layers = settings_layers(options.workflow.settings, os.environ)
    found = read_run(options).found if has_workflow else layers.without_workflow()
    values = msgspec.structs.asdict(found.settings)
    if as_json:
        shown: Any = values
        if origin:
            shown = {key: {"value": value, "origin": found.origin(key)} for key, value in values.items()}
        print_json({"version": JSON_VERSION, **shown}, indent=2)
        return 0
    from sflow_ctl.format.yaml_source import dump

    for key, value in values.items():
        first, newline, rest = dump({key: value}).partition("\n")
        note = f"  # {found.origin(key)}" if origin else ""
        print_document(f"{first}{note}{newline}{rest}")
    return 0
