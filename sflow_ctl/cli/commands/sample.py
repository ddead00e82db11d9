"""`sflow-ctl sample`: the examples that come with the program."""

from pathlib import Path

import click
import msgspec

from protocol.errors import UsageError
from sflow_ctl.cli.options.paths import file_or_directory
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_document, print_json, print_line
from sflow_ctl.runtime.files.samples import copy_sample, find_sample, samples


class SampleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An example workflow."""

    name: str
    """As `sample show` and `sample copy` name it."""
    about: str
    """What it demonstrates."""


class SampleList(msgspec.Struct, frozen=True, kw_only=True):
    """`sample list --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    samples: tuple[SampleEntry, ...]
    """In the order of the list."""


class SampleCopy(msgspec.Struct, frozen=True, kw_only=True):
    """`sample copy NAME --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    path: str
    """The file that was written, absolute."""


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


_OTHER_WORDS = {
    **dict.fromkeys(("export", "get", "download", "cp"), "copy"),
    **dict.fromkeys(("cat", "print", "view"), "show"),
    **dict.fromkeys(("ls", "all"), "list"),
}
"""What other programs call these commands. No sample has such a name."""


class _ShortForms(click.Group):
    """Expands short forms: `sample NAME ...` is `sample copy NAME ...`; `sample` and `sample --list` are `sample list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in _OTHER_WORDS:
            meant = _OTHER_WORDS[args[0]]
            what = f'there is no command "sample {args[0]}"'
            raise UsageError.of("unknown-command", what, hint=f'did you mean "sample {meant}"?')
        is_help = any(arg in ctx.help_option_names for arg in args)
        if not is_help and (not args or args[0] not in self.commands):
            lists = not [arg for arg in args if arg not in ("--list", "--json")]
            args = (
                ["list", *(["--json"] if "--json" in args else [])]
                if lists or "--list" in args
                else ["copy", *args]
            )
        return super().parse_args(ctx, args)


@click.group(cls=_ShortForms)
def sample() -> None:
    """List, show or copy example workflows. `sample NAME` is short for `sample copy NAME`."""


@sample.command("list")
@_json_option
def list_samples(as_json: bool) -> int:
    """List the samples and what each demonstrates."""
    known = samples()
    if as_json:
        print_json(SampleList(samples=tuple(SampleEntry(name=one.name, about=one.about) for one in known)))
        return 0
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
    type=click.Path(),
    default=".",
    help="File or directory to write; DIR/ is made if it is not there. Default: the current directory.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@_json_option
def copy(name: str, output: str, force: bool, as_json: bool) -> int:
    """Copy a sample to a file."""
    found = find_sample(name)
    path = file_or_directory(output, f"{Path(found.name).name}.yaml")
    copy_sample(found, path, force)
    if as_json:
        print_json(SampleCopy(path=str(path.absolute())))
        return 0
    print_line(f"✓ Saved to {display_path(path)}")
    return 0
