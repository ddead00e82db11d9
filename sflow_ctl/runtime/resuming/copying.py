"""Copies the directory of a run that has ended, so that tasks can run again in the copy. Called by `cli/again/rerun.py`."""

import os
import shutil
import stat
from pathlib import Path

import msgspec

from protocol.errors import RunDirectoryError, UsageError
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import encode_claim, read_claim
from sflow_ctl.runtime.record.directory import make_run_id
from sflow_ctl.runtime.record.disk import unwritable
from sflow_ctl.runtime.record.durable import write_whole
from sflow_ctl.runtime.record.reader import Liveness, RunReader

_NOT_COPIED = frozenset(
    Path(name).name
    for name in (
        layout.CONNECTION,
        layout.OPERATOR,
        layout.CLAIM,
        layout.SUCCESSION,
        layout.CONTROLLER,
        layout.NONCE,
    )
)
"""What is of a controller that lives, in the run's own folder."""


def copy_run(reader: RunReader, run_id: str | None) -> Path:
    """Copy the directory of a run beside it; return the copy, complete under its name. Raises: UsageError, RunDirectoryError."""
    source = reader.directory
    status = reader.status()
    if status.liveness not in (Liveness.ENDED, Liveness.DEAD):
        raise UsageError.of(
            "may-be-running",
            f"run {reader.facts.run_id} may still be running: {status.text}",
            hint="stop it first",
        )
    name = run_id or make_run_id(reader.facts.workflow)
    if Path(name).name != name or name in (".", ".."):
        raise UsageError.of(
            "unsafe-name", f'"{name}" cannot be the name of a directory', hint="use --run-id NAME"
        )
    target, building = source.parent / name, source.parent / f".{name}.building"
    if target.exists() or target.is_symlink():
        raise RunDirectoryError.of(
            "run-directory-exists",
            f"the run directory {target} exists already",
            hint="choose another --run-id",
        )
    try:
        shutil.copytree(source, building, symlinks=True, ignore=_not_copied)
        claim = read_claim(source / layout.CLAIM)
        if claim is not None:
            write_whole(
                building / layout.CLAIM, encode_claim(msgspec.structs.replace(claim, is_released=True))
            )
        building.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(building, ignore_errors=True)
        cause = error if error.errno is not None else OSError(str(error))
        raise unwritable(cause, f"cannot copy {source}", target) from error
    return target


def _not_copied(directory: str, names: list[str]) -> set[str]:
    """Return what of a directory is not copied: files of a living controller, and what is neither a file nor a directory."""
    ours = _NOT_COPIED if Path(directory).name == layout.OURS else frozenset()
    return {name for name in names if name in ours or not _is_plain(f"{directory}/{name}")}


def _is_plain(path: str) -> bool:
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)
