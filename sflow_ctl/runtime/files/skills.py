"""The skills for coding agents that come with the program, and their copies in the agents' folders.

A skill is a folder with a `SKILL.md`, whose head says when an agent should read it. Copies are merged: a file that is there
is left alone unless it is forced.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from protocol.errors import ExitStatus, FleetError

Agent = Literal["claude", "cursor", "codex"]
FOLDERS: dict[Agent, str] = {
    "claude": ".claude/skills",
    "cursor": ".cursor/skills",
    "codex": ".codex/skills",
}
"""Where each agent looks, below a project or a home directory."""
FOR_ALL_PROJECTS: tuple[Agent, ...] = ("claude", "codex")
"""Agents that also look below the home directory."""
HEAD, DESCRIPTION = "---\n", "description:"
_HOME = Path(__file__).resolve().parents[2] / "skills"


class SkillError(FleetError):
    """A skill cannot be copied."""

    exit_status = ExitStatus.USAGE


class Skill(Struct, frozen=True):
    """A skill: its name, when to use it, and its files by their paths below its folder."""

    name: str
    about: str
    files: dict[str, bytes]


class Copied(Struct, frozen=True):
    """What became of the files of skills in one folder."""

    folder: Path
    written: int
    unchanged: int
    kept: tuple[Path, ...]
    """Files that are there with another content."""


def skills() -> list[Skill]:
    """Return all skills, by name. Raises: SkillError."""
    found = [_skill(path) for path in sorted(_HOME.glob("*/SKILL.md"))]
    if not found:
        raise SkillError.of(
            "no-skills", "this installation has no skills", str(_HOME), "reinstall the package"
        )
    return found


def copy_skills(chosen: Sequence[Skill], folder: Path, *, is_forced: bool) -> Copied:
    """Write skills into a folder, beside what is there. Raises: SkillError."""
    written, unchanged, kept = 0, 0, []
    for path, content in _targets(chosen, folder):
        try:
            there = path.read_bytes() if path.exists() else None
            if there == content:
                unchanged += 1
            elif there is not None and not is_forced:
                kept.append(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                written += 1
        except OSError as error:
            what = f"{path} cannot be written: {error.strerror or error}"
            raise SkillError.of("file-not-writable", what, str(path), "use -o DIRECTORY") from error
    return Copied(folder, written, unchanged, tuple(kept))


def _targets(chosen: Sequence[Skill], folder: Path) -> Iterator[tuple[Path, bytes]]:
    for skill in chosen:
        for name, content in skill.files.items():
            yield folder / skill.name / name, content


def _skill(path: Path) -> Skill:
    head = path.read_text(encoding="utf-8").removeprefix(HEAD).partition(HEAD)[0]
    about = next((line for line in head.splitlines() if line.startswith(DESCRIPTION)), "")
    folder = path.parent
    files = {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in sorted(folder.rglob("*.md"))
        if one.is_file()
    }
    return Skill(folder.name, about.removeprefix(DESCRIPTION).strip(), files)
