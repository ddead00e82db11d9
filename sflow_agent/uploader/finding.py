"""Finds the regular files that a path or pattern means. Called by `program`."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from protocol.text.object_keys import is_glob

MOST_FILES = 100_000
"""More matches of one pattern are a mistake rather than results."""


class FoundFile(NamedTuple):
    """A file to upload."""

    path: str
    """Absolute."""
    shown: str
    """For people: below the task's directory if it is there."""
    bytes: int


class TooManyFilesError(Exception):
    """A pattern matches more files than can be results."""


def find(pattern: str, directories: Sequence[str]) -> list[FoundFile]:
    """Return the regular files of a pattern, sorted; relative ones of the first directory in which there are any.

    As in a shell, `*` does not match a name that begins with a dot, and links to directories are not followed by `**`.
    Raises: OSError, TooManyFilesError.
    """
    for directory in directories:
        inside = _relative(pattern, directory)
        if inside is not None:
            found = _sorted(_in(directory, inside), directory)
        elif directory is directories[0]:
            found = _sorted(_in("/", pattern.lstrip("/")), directory)
        else:
            continue
        if found:
            return found
        # The first directory is the one in the pattern; the same files may be in another one.
        pattern = pattern if inside is None else inside
    return []


def _relative(pattern: str, directory: str) -> str | None:
    """Return a pattern relative to a directory; None if it is elsewhere. The directory's own name is taken literally."""
    if not pattern.startswith("/"):
        return pattern
    prefix = directory.rstrip("/") + "/"
    return pattern[len(prefix) :] if pattern.startswith(prefix) else None


def _in(directory: str, inside: str) -> Iterator[str]:
    literal = os.path.join(directory, inside)  # noqa: PTH118 - must not drop a slash at the end
    if not is_glob(inside) or os.path.lexists(literal):
        yield literal
        return
    parts = [part if part == "**" else part.replace("**", "*") for part in inside.split("/") if part != "."]
    if parts[-1] == "**":  # before Python 3.13 that means directories only
        parts.append("*")
    plain = 0
    while plain < len(parts) and not is_glob(parts[plain]):
        plain += 1
    root = Path(directory, *parts[:plain])
    shows_hidden = any(part.startswith(".") for part in parts[plain:])
    for number, one in enumerate(root.glob("/".join(parts[plain:]))):
        if number >= MOST_FILES:
            raise TooManyFilesError(f"it matches more than {MOST_FILES} files")
        below = one.relative_to(root).parts
        if shows_hidden or not any(part.startswith(".") for part in below):
            yield str(one)


def _sorted(paths: Iterator[str], directory: str) -> list[FoundFile]:
    found = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - a path with a slash at its end must not lose it
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(status.st_mode):
            shown = _relative(path, directory) or path
            found[path] = FoundFile(path, shown, status.st_size)
    return [found[path] for path in sorted(found)]
