"""`sflow-ctl visualize`: the graph as Mermaid or dot text, or as a picture that Graphviz draws."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import click

from protocol.errors import UsageError
from sflow_ctl.cli.options.file_to_write import FileToWrite
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
    type=FileToWrite(path_type=Path),
    help="File to write; - is standard output, the default for mermaid and dot.",
)
@click.option("--show-variables", is_flag=True, help="Include variables and their values.")
def visualize(kind: str | None, output: Path | None, show_variables: bool, **options: Any) -> int:
    """Draw the graph of a workflow. Starts nothing.

    Without --format, the suffix of the output file decides: .mmd, .dot, .svg, .png or .pdf. Pictures need Graphviz.
    """
    from sflow_ctl.planner.show.graph_text import dot, mermaid
    from sflow_ctl.runtime.run.planning import plan_run, read_run

    kind = kind or _kind_of(output)
    is_printed = output is None or str(output) == "-"
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
        _draw(text, kind, None if is_printed else str(output))
    elif is_printed:
        print_document(text)
    elif output is not None:
        output.write_text(text)
    if not is_printed:
        print_line(f"✓ Saved to {output}")
    return 0


def _draw(text: str, kind: str, output: str | None) -> None:
    """Have Graphviz draw a picture, on standard output without a file. Raises: UsageError with what it said."""
    command = ["dot", f"-T{kind}", *(() if output is None else ("-o", output))]
    done = subprocess.run(command, input=text.encode(), stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode(errors="replace").strip()
    is_unread = output is None and done.returncode == -signal.SIGPIPE  # as of `| head`
    if done.returncode != 0 and not is_unread:
        said = said or f"exit status {done.returncode}"
        what = f"Graphviz's `dot` cannot write {output or 'the picture'}: {said}"
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
