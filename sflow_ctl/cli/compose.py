"""`sflow-ctl compose`: several files as one, overrides applied."""

from pathlib import Path
from typing import Any

import click

from sflow_ctl.cli.workflow_options import run_options, workflow_options


@click.command()
@workflow_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output.")
@click.option(
    "-r", "--resolve", is_flag=True, help="Replace what has one certain value; the plan stays the same."
)
def compose(output: Path | None, resolve: bool, **options: Any) -> int:
    """Merge workflow files into one. Says what is wrong with the result, if anything is."""
    from sflow_ctl.spec.compose import compose as composed
    from sflow_ctl.spec.loader import load_documents

    chosen = run_options(**options)
    loaded = load_documents(
        chosen.files, chosen.overrides, chosen.artifacts, chosen.missable, is_strict=chosen.is_strict
    )
    text = composed(loaded, resolve)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text)
        click.echo(f"✓ Saved to {output}")
    return 0
