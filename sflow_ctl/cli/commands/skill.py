"""`sflow-ctl skill`: puts the skills for coding agents where those look for them."""

import sys
from pathlib import Path

import click
import msgspec

from protocol.errors import UsageError
from protocol.text.counted import counted
from sflow_ctl.cli.terminal.columns import display_path
from sflow_ctl.cli.terminal.lines import print_json, print_line
from sflow_ctl.runtime.files.skills import FOLDERS, FOR_ALL_PROJECTS, Agent, Copied, copy_skills, skills


class SkillEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A skill for coding agents."""

    name: str
    """Its name, and that of its folder."""
    about: str
    """When an agent should use it."""


class SkillList(msgspec.Struct, frozen=True, kw_only=True):
    """`skill --list --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    skills: tuple[SkillEntry, ...]
    """By name."""


class SkillFolder(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied into one folder."""

    directory: str
    """The folder, absolute."""
    written: int
    """How many files were written."""
    unchanged: int
    """How many were there already with the same content."""
    kept: tuple[str, ...]
    """Files with another content, absolute; --force replaces them."""


class SkillCopies(msgspec.Struct, frozen=True, kw_only=True):
    """`skill --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    folders: tuple[SkillFolder, ...]
    """In the order of the agents."""


_ALL = "all"
_DEFAULT = Path("skills")


@click.command()
@click.option(
    "-t",
    "--target",
    "targets",
    type=click.Choice([*FOLDERS, _ALL]),
    multiple=True,
    help="Copy into the folder of this agent, without a question; repeatable.",
)
@click.option(
    "-g", "--global", "is_global", is_flag=True, help="With -t: below your home directory, for all projects."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory to copy into. Default: skills.",
)
@click.option("--force", "-f", is_flag=True, help="Replace existing files whose content differs.")
@click.option("--yes", "-y", is_flag=True, help="Copy without a question.")
@click.option("--list", "-l", "is_listed", is_flag=True, help="List the skills and copy nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; asks no question.")
def skill(
    targets: tuple[str, ...],
    is_global: bool,
    output: Path | None,
    force: bool,
    yes: bool,
    is_listed: bool,
    as_json: bool,
) -> int:
    """Copy the skills that teach coding agents to write sflow files, to read errors and to review files.

    Files that are there already are kept, unless they are the same or --force is given.
    """
    known = skills()
    if is_listed and as_json:
        print_json(SkillList(skills=tuple(SkillEntry(name=one.name, about=one.about) for one in known)))
        return 0
    if is_listed:
        for one in known:
            print_line(f"{one.name}\n    {one.about}")
        return 0
    folders = _folders(targets, is_global, output)
    if not (targets or yes or as_json):
        _ask(len(known), folders[0])
    copies = [copy_skills(known, folder, is_forced=force) for folder in folders]
    if as_json:
        print_json(SkillCopies(folders=tuple(map(_entry, copies))))
        return 0
    for copied in copies:
        _say(copied)
    return 0


def _entry(copied: Copied) -> SkillFolder:
    return SkillFolder(
        directory=str(copied.folder.absolute()),
        written=copied.written,
        unchanged=copied.unchanged,
        kept=tuple(str(path.absolute()) for path in copied.kept),
    )


def _folders(targets: tuple[str, ...], is_global: bool, output: Path | None) -> list[Path]:
    """Return the directories to copy into. Raises: UsageError."""
    if not targets:
        if is_global:
            raise UsageError.of("needs-target", "-g needs an agent", hint="add -t claude, -t codex or -t all")
        return [_DEFAULT if output is None else output]
    if output is not None:
        what = "-t and -o say two different places"
        raise UsageError.of("conflicting-options", what, hint="use one of them")
    agents: list[Agent] = [agent for agent in FOLDERS if agent in targets or _ALL in targets]
    if not is_global:
        return [Path(FOLDERS[agent]) for agent in agents]
    unable = [agent for agent in agents if agent not in FOR_ALL_PROJECTS]
    if unable and _ALL not in targets:
        what = f"{', '.join(unable)} has no folder for all projects"
        raise UsageError.of("no-global-folder", what, hint="leave out -g, and run it in the project")
    return [Path.home() / FOLDERS[agent] for agent in agents if agent in FOR_ALL_PROJECTS]


def _ask(count: int, folder: Path) -> None:
    """Ask whether to copy. Raises: UsageError where no answer can come; click.Abort for a no."""
    if not sys.stdin.isatty():
        raise UsageError.of(
            "needs-yes", "there is no terminal to ask", hint="add -y, or name an agent with -t"
        )
    click.confirm(f"Copy {counted(count, 'skill')} into {display_path(folder)}?", abort=True, default=True)


def _say(copied: Copied) -> None:
    parts = [f"{counted(copied.written, 'file')} written"]
    parts += [f"{copied.unchanged} unchanged"] if copied.unchanged else []
    print_line(f"✓ {display_path(copied.folder)}: {', '.join(parts)}")
    for path in copied.kept:
        print_line(f"  kept, with other content: {display_path(path)}")
    if copied.kept:
        print_line("  --force replaces them")
