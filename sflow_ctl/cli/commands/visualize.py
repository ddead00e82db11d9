"""`sflow-ctl visualize`: the graph as Mermaid or dot text, or as a picture that Graphviz draws."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from protocol.errors import UsageError
from sflow_ctl.cli.options.workflow_options import run_options, workflow_options

_TEXTS = ("mermaid", "dot")
_PICTURES = ("svg", "png", "pdf")


@click.command()
@workflow_options
@click.option(
    "--format", "kind", type=click.Choice((*_TEXTS, *_PICTURES)), default="mermaid", show_default=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: standard output, for text.")
@click.option("--show-variables", is_flag=True, help="With the variables and their values.")
def visualize(kind: str, output: Path | None, show_variables: bool, **options: Any) -> int:
    """Draw the graph of a workflow. Starts nothing."""
    from sflow_ctl.planner.show.graph_text import dot, mermaid
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    if kind in _PICTURES:
        if output is None:
            raise UsageError.of("output-missing", f"{kind} is no text", hint="name a file with -o FILE")
        if shutil.which("dot") is None:
            raise UsageError.of(
                "program-not-found",
                "pictures need Graphviz's `dot`",
                hint="install graphviz, or use --format mermaid",
            )
    chosen = run_options(**options)
    plan = plan_run(read_run(chosen), chosen, is_dry=True).plan
    text = (mermaid if kind == "mermaid" else dot)(plan, show_variables)
    if kind in _PICTURES:
        subprocess.run(["dot", f"-T{kind}", "-o", str(output)], input=text.encode(), check=True)
    elif output is not None:
        output.write_text(text)
    else:
        click.echo(text, nl=False)
    if output is not None:
        click.echo(f"✓ Saved to {output}")
    return 0
