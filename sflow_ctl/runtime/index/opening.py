"""Opens the index that the settings ask for. Called by commands that list runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import UsageError
from sflow_ctl.runtime.files.settings_files import setting_path, settings_layers
from sflow_ctl.runtime.index.place import index_file, problem_of

if TYPE_CHECKING:
    from sflow_ctl.runtime.index.database import Index

HINT = "name a file on a local disk with the setting index_file, or write index: none"


def index_place(environ: Mapping[str, str]) -> Path | None:
    """Return the file of the index; None where the settings ask for none. Raises: SpecError."""
    found = settings_layers({}, environ).without_workflow()
    if found.settings.index == "none":
        return None
    named = setting_path(found, "index_file")
    return index_file(None if named is None else str(named), environ)


def open_index(environ: Mapping[str, str]) -> "tuple[Index | None, str]":
    """Return the index, None without one, and why there is none although it is asked for. Raises: SpecError."""
    place = index_place(environ)
    if place is None:
        return None, ""
    problem = problem_of(place)
    if problem:
        return None, f"no index of runs: {problem}; {HINT}"
    from sflow_ctl.runtime.index.database import Index, UnusableIndexError  # few users have one

    try:
        return Index(place), ""
    except UnusableIndexError as error:
        return None, f"no index of runs: {error}"


def needed_index(environ: Mapping[str, str]) -> "Index":
    """Return the index, for a command that is about it. Raises: UsageError, SpecError."""
    if index_place(environ) is None:
        what, hint = (
            "there is no index: the setting index is none",
            "write index: sqlite in ~/.config/sflow/config.yaml",
        )
        raise UsageError.of("no-index", what, hint=hint)
    index, problem = open_index(environ)
    if index is None:
        raise UsageError.of("no-index", problem)
    return index
