"""Paths as options give them."""

import os
from pathlib import Path


def file_or_directory(given: str, usual: str) -> Path:
    """Return the file that a text means: `usual` in a directory, which is there or whose text ends with a slash."""
    path = Path(given)
    return path / usual if given.endswith("/") or path.is_dir() else path


def absolute(path: Path) -> Path:
    """Return the path from the root; symbolic links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
