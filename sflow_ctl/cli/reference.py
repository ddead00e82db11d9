"""`docs/reference/cli.md`, generated from the commands: `python -m sflow_ctl.cli.reference > docs/reference/cli.md`.

A test compares the file with this. Uses click's own help records, so no text exists twice.
"""

from collections.abc import Iterator

import click

from sflow_ctl.cli.app import group
from sflow_ctl.cli.options.sections import option_sections

_HEAD = """# Command line

Generated from the commands by `python -m sflow_ctl.cli.reference`; do not edit. Every command also prints its
options with `--help`. Exit statuses: 0 success, 1 the run failed, 2 wrong usage or workflow, 3 infrastructure,
70 a bug in sflow-ctl, 124 time limit, 130 interrupted by Ctrl-C, 143 terminated.
"""


def reference() -> str:
    """Return the whole page."""
    context = click.Context(group, info_name="sflow-ctl", help_option_names=["-h", "--help"])
    return "\n".join([_HEAD, *_command(group, context, 2)]).rstrip() + "\n"


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} {context.command_path}"
    yield ""
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"`{context.command_path} {usage}`"
    yield ""
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    for title, parameters in option_sections(command, context).items():
        records = [
            record
            for one in parameters
            if isinstance(one, click.Option) and (record := one.get_help_record(context)) is not None
        ]
        if not records:
            continue
        yield f"| {title} | |"
        yield "|---|---|"
        for names, text in records:
            yield _row(names, text)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), level + 1)


def _row(names: str, text: str) -> str:
    bar = r"\|"
    return f"| `{names.replace('|', bar)}` | {text.replace('|', bar)} |"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
