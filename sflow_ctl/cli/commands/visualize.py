"""`sflow-ctl visualize`: the graph as Mermaid or dot text, or as a picture that Graphviz draws."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from protocol.errors import UsageError
from sflow_ctl.cli.options.given import run_options
from sflow_ctl.cli.options.sections import SectionedCommand
from sflow_ctl.cli.options.workflow_options import workflow_options
from sflow_ctl.cli.terminal.lines import print_document, print_line, print_warning
from sflow_ctl.plan.secrets import SECRETS

_TEXTS = ("mermaid", "dot")
_PICTURES = ("svg", "png", "pdf")
_OF_SUFFIX = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".md": "mermaid",
    ".txt": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    **{f".{kind}": kind for kind in _PICTURES},
}


@click.command(cls=SectionedCommand)
@workflow_options
@click.option(
    "--format",
    "kind",
    type=click.Choice((*_TEXTS, *_PICTURES)),
    help="Default: by the suffix of the output file, else mermaid.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write. Default: standard output, for mermaid and dot.",
)
@click.option("--show-variables", is_flag=True, help="Include variables and their values.")
def visualize(kind: str | None, output: Path | None, show_variables: bool, **options: Any) -> int:
    """Draw the graph of a workflow. Starts nothing.

    Without --format, the suffix of the output file decides: .mmd, .dot, .svg, .png or .pdf. Pictures need Graphviz.
    """
    from sflow_ctl.planner.show.graph_text import dot, mermaid
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    kind = kind or _kind_of(output)
    if kind in _PICTURES:
        if output is None:
            raise UsageError.of("output-missing", f"{kind} is a picture", hint="name a file with -o FILE")
        if shutil.which("dot") is None:
            raise UsageError.of(
                "program-not-found",
                "pictures need Graphviz's `dot`",
                hint="install graphviz, or use --format mermaid",
            )
    chosen = run_options(shows_unsupported=True, **options)
    plan = plan_run(read_run(chosen), chosen, is_dry=True).plan
    text = SECRETS.mask.text((mermaid if kind == "mermaid" else dot)(plan, show_variables))
    if kind in _PICTURES:
        _draw(text, kind, str(output))
    elif output is not None:
        output.write_text(text)
    else:
        print_document(text)
    if output is not None:
        print_line(f"✓ Saved to {output}")
    return 0


def _draw(text: str, kind: str, output: str) -> None:
    """Have Graphviz draw a picture. Raises: UsageError with what it said."""
    done = subprocess.run(
        ["dot", f"-T{kind}", "-o", output], input=text.encode(), stderr=subprocess.PIPE, check=False
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        what = f"Graphviz's `dot` cannot write {output}: {said or f'exit status {done.returncode}'}"
        raise UsageError.of("output-not-drawn", what, output)
    if said:
        print_warning(said)


def _kind_of(output: Path | None) -> str:
    """Return the format that the suffix of the output file names. Raises: UsageError for an unknown one."""
    if output is None or not output.suffix:
        return "mermaid"
    kind = _OF_SUFFIX.get(output.suffix.lower())
    if kind is None:
        what = f'the suffix of {output} does not name a format: "{output.suffix}"'
        raise UsageError.of("output-format", what, hint="use .mmd, .dot, .svg, .png or .pdf, or --format")
    return kind
