"""`sflow-ctl sample`: the examples that come with the program."""

from pathlib import Path

import click

from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_document, print_line
from sflow_ctl.runtime.files.samples import copy_sample, find_sample, samples


class _ShortForms(click.Group):
    """Expands short forms: `sample NAME ...` is `sample copy NAME ...`; `sample` and `sample --list` are `sample list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_help = any(arg in ctx.help_option_names for arg in args)
        if not is_help and (not args or args[0] not in self.commands):
            args = ["list"] if not args or "--list" in args else ["copy", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ShortForms)
def sample() -> None:
    """List, show or copy example workflows. `sample NAME` is short for `sample copy NAME`."""


@sample.command("list")
def list_samples() -> int:
    """List the samples and what each demonstrates."""
    known = samples()
    width = max(len(one.name) for one in known)
    for one in known:
        print_line(f"{one.name:<{width}}  {one.about}")
    return 0


@sample.command()
@click.argument("name")
def show(name: str) -> int:
    """Print a sample."""
    print_document(find_sample(name).text)
    return 0


@sample.command()
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or directory to write. Default: the current directory.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def copy(name: str, output: Path | None, force: bool) -> int:
    """Copy a sample into a file of yours."""
    path = copy_sample(find_sample(name), output, force)
    print_line(f"✓ Saved to {display_path(path)}")
    return 0
