"""The type of options that take a file to write. Not in `paths.py`: a plain run imports that, and not click."""

from typing import Any

import click


class FileToWrite(click.Path):
    """A path of a file. One that ends with a slash is refused: it would become a file called as the directory is meant to be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises: click.BadParameter."""
        if isinstance(value, str) and value.endswith("/"):
            self.fail(f"{value} is a directory: name the file, as {value}NAME", param, ctx)
        return super().convert(value, param, ctx)
