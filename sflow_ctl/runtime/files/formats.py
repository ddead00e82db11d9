"""Reads the files of a run directory that say which format they have; one that is newer than this version is refused with advice.

`run.json` has the format of the directory, and the version of sflow-ctl that wrote it. A format grows when a field changes its
meaning or a file moves; fields may be added without. Called by `reader.py`.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from protocol.errors import RunDirectoryError
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import facts_of
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.version import VERSION

T = TypeVar("T")
OF_0_1 = ("run.json", "plan.json", "events.jsonl")
"""Files that version 0.1 had in the run directory itself."""


class _Stamp(msgspec.Struct):
    """What any version's file says of its format; `run.json` has the version of sflow-ctl as `version`."""

    version: int | str = 0
    format: int = 0


def decoded(directory: Path, name: str, decode: Callable[[], T], known: int) -> T:
    """Return what `decode` makes of a file of a run, whose newest known format is `known`.

    Raises: RunDirectoryError for one that cannot be read, is damaged, or is of a newer format.
    """
    path = directory / name
    try:
        return decode()
    except OSError as error:
        raise RunDirectoryError.of(
            "run-not-readable",
            f"cannot read {path}: {error.strerror or error}",
            hint=f"ls -l {shlex.quote(str(path))} shows its owner and mode; without it only the logs beside it are left",
        ) from error
    except UNREADABLE as error:
        if not isinstance(error, msgspec.ValidationError):
            raise RunDirectoryError.of(
                "run-not-readable",
                f"{path} is damaged, or was not written to its end: {error}",
                hint="the logs in its tasks' directories are as they were; a full disk is the usual cause: df -h",
            ) from error
        refuse_newer_stamp(directory, name, known)
        facts = facts_of(directory)
        raise RunDirectoryError.of(
            "run-not-readable",
            f"{path} was not written by this version: {error}",
            hint=f"the run was made by {'another version' if facts is None else f'sflow-ctl {facts.version}'}",
        ) from error


def refuse_newer(path: Path, found: int, known: int, writer: str) -> None:
    """Raises: RunDirectoryError for a file of a newer format; `writer` is the version that wrote it, "" if not known."""
    if found > known:
        by = f"sflow-ctl {writer}" if writer else "a newer sflow-ctl"
        raise RunDirectoryError.of(
            "run-not-readable",
            f"{path} was written by {by}, in format {found}; this version, {VERSION}, reads up to {known}",
            hint=f"use {by}",
        )


def refuse_newer_stamp(directory: Path, name: str, known: int) -> None:
    """Raises: RunDirectoryError if a file that cannot be decoded says that it is of a newer format."""
    try:
        stamp = msgspec.json.decode(read_regular(directory / name), type=_Stamp)
    except (OSError, *UNREADABLE):
        return
    if isinstance(stamp.version, str):
        refuse_newer(directory / name, stamp.format, known, stamp.version)
    else:
        facts = facts_of(directory)
        refuse_newer(directory / name, stamp.version, known, "" if facts is None else facts.version)


def is_of_0_1(directory: Path) -> bool:
    """Return whether version 0.1 made this run directory."""
    return not (directory / layout.RUN).exists() and all((directory / name).is_file() for name in OF_0_1)
