"""Paths as options give them."""

import os
from pathlib import Path


def absolute(path: Path) -> Path:
    """Return the path from the root; symbolic links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
