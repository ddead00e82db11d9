"""Finds programs on PATH. Called before a run begins.

As `shutil.which` does it, whose module imports three compression libraries: 2 ms of each run.
"""

import os


def is_installed(program: str, path: str | None = None) -> bool:
    """Return whether a program exists on a PATH, this process's own for None; a name with a slash is a path itself."""
    if os.path.dirname(program):  # noqa: PTH120 - hot path, as below
        return _is_executable(program)
    directories = os.get_exec_path() if path is None else path.split(os.pathsep)
    return any(_is_executable(os.path.join(directory or os.curdir, program)) for directory in directories)  # noqa: PTH118


def _is_executable(path: str) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)  # noqa: PTH112
