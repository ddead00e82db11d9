"""How wide a table may be, and how a path is shortest to type."""

import os
import sys
from pathlib import Path


def shown_path(path: Path) -> str:
    """The path as it is shortest to type from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../..") else relative


def columns() -> int:
    """Width for a table; wide enough for anything when nobody looks at it directly."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 200
