"""Help texts with options in sections, each under its own heading."""

from collections.abc import Callable
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])
DEFAULT_SECTION = "Options"


def section(title: str, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options to a command, shown in this order under `title`."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
            vars(vars(command)["__click_params__"][-1])["section"] = title
        return command

    return add


class SectionedCommand(click.Command):
    """A command that prints its options by section, in the order in which sections are first used."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections; options without one come last, with `--help`."""
        for title, parameters in option_sections(self, ctx).items():
            options = [one for one in parameters if isinstance(one, click.Option)]
            records = [record for one in options if (record := one.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def option_sections(command: click.Command, ctx: click.Context) -> dict[str, list[click.Parameter]]:
    """Return the command's parameters by the title of their section."""
    sections: dict[str, list[click.Parameter]] = {}
    for parameter in command.get_params(ctx):
        sections.setdefault(vars(parameter).get("section", DEFAULT_SECTION), []).append(parameter)
    rest = sections.pop(DEFAULT_SECTION, [])
    return {**sections, DEFAULT_SECTION: rest}
