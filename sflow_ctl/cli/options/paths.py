"""Paths as options give them."""

import os
from pathlib import Path
from typing import Any

import click


class FileToWrite(click.Path):
    """A path of a file. One that ends with a slash is refused: it would become a file called as the directory is meant to be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises: click.BadParameter."""
        if isinstance(value, str) and value.endswith("/"):
            self.fail(f"{value} is a directory: name the file, as {value}NAME", param, ctx)
        return super().convert(value, param, ctx)


def file_or_directory(given: str, usual: str) -> Path:
    """Return the file that a text means: `usual` in a directory, which is there or whose text ends with a slash."""
    path = Path(given)
    return path / usual if given.endswith("/") or path.is_dir() else path


def absolute(path: Path) -> Path:
    """Return the path from the root; symbolic links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
