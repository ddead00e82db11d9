"""The width of the terminal and of text on it, and the shortest form of paths."""

import os
import sys
from pathlib import Path
from unicodedata import east_asian_width

DEFAULT_COLUMNS = 80
"""For a terminal that does not know its size: `docker run -t` and script(1) leave it at 0."""


def display_path(path: Path | str) -> str:
    """Return the path relative to the working directory if that is shorter to type."""
    below = f"{os.getcwd()}/"  # noqa: PTH109 - of thousands of runs
    if str(path).startswith(below) and ".." not in str(path):
        return str(path)[len(below) :]
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../..") else relative


def columns(descriptor: int | None = None) -> int | None:
    """Return the width of the terminal on `descriptor` (default: standard output); None when it is not one."""
    try:
        at = sys.stdout.fileno() if descriptor is None else descriptor
        return os.get_terminal_size(at).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):
        return None


def cells_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(one) in "WF" else 1 for one in text)
