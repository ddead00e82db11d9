"""Deletes runs that have ended, with what is left of them on this node. Called by `clean`.

A run directory gets another name first, in one step: from then on no command finds it, and a resume that has begun just before
is seen by its claim and gets the directory back.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from protocol.errors import FleetError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.report.looking.cleaning import Removal
from sflow_ctl.report.looking.run_list import RunEntry
from sflow_ctl.runtime.catalog.registry import forget_run
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.claim import HolderState, holder_of, read_claim
from sflow_ctl.runtime.record.directory import RunFacts
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular

DELETING, BUILDING = ".deleting", ".building"
REST_AGE_S = 3600.0
"""A directory that was being made or deleted so long ago is a rest."""
_SPOOL = lazy_pattern(r"sflow-(\d+)-(.+-[0-9a-f]{8})-\d+(-\w+)?")
"""As `sflow_agent/logs/spool.py` names them."""


def removal_of(run: RunEntry) -> Removal:
    """Return a run as something to delete."""
    return Removal(
        kind="run",
        path=run.directory,
        run_id=run.run_id,
        state=run.state,
        ended_wall_ns=run.ended_wall_ns or run.started_wall_ns,
        bytes=disk_bytes(run.directory),
    )


def rests(output_dir: Path) -> Iterator[Removal]:
    """Yield directories of runs that were not made, or not deleted, wholly."""
    with suppress(OSError):
        for entry in sorted(os.scandir(output_dir), key=lambda one: one.name):
            is_rest = entry.name.startswith(".") and entry.name.endswith((DELETING, BUILDING))
            if not is_rest or not entry.is_dir(follow_symlinks=False):
                continue
            age_s = time.time_ns() / 1e9 - entry.stat(follow_symlinks=False).st_mtime
            if entry.name.endswith(DELETING) or age_s > REST_AGE_S:
                yield Removal(kind="rest", path=entry.path, bytes=disk_bytes(entry.path))


def spools_of(runs: Collection[str], log_spool: Path | None) -> Iterator[Removal]:
    """Yield the spools on this node of the runs in these directories, which no agent uses."""
    markers = {marker: run for run in runs for marker in _markers(Path(run))}
    parent = log_spool or Path(os.environ.get("TMPDIR") or "/tmp")
    with suppress(OSError):
        for entry in sorted(os.scandir(parent), key=lambda one: one.name):
            match = _SPOOL.fullmatch(entry.name)
            if match is None or int(match[1]) != os.getuid() or match[2] not in markers:
                continue
            is_ours = (
                entry.is_dir(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_uid == os.getuid()
            )
            if is_ours and not _is_used(entry.path):
                run_id = Path(markers[match[2]]).name
                yield Removal(kind="spool", path=entry.path, run_id=run_id, bytes=disk_bytes(entry.path))


def delete(removal: Removal) -> str:
    """Delete one thing; return why that was not possible, empty if it was."""
    path = Path(removal.path)
    try:
        if removal.kind == "run":
            return _delete_run(path)
        with suppress(FileNotFoundError):  # the deletion of a run of that name has made room
            shutil.rmtree(path)
    except OSError as error:
        return f"{error.filename or path}: {error.strerror or error}"
    return ""


def disk_bytes(path: str) -> int:
    """Return the bytes that a directory takes on the disk."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
    return total


def _delete_run(path: Path) -> str:
    """Delete a run directory. Raises: OSError."""
    if path.is_symlink():
        return f"{path} is a link: delete what it leads to"
    aside = path.with_name(f".{path.name}{DELETING}")
    if _is_live(path):
        return f"{path} is live now"
    try:
        path.rename(aside)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # of an earlier run with this name
            shutil.rmtree(aside)
            path.rename(aside)
        else:
            raise
    if _is_live(aside):
        aside.rename(path)
        return f"{path} is live now"
    forget_run(path)
    shutil.rmtree(aside)
    return ""


def _is_live(directory: Path) -> bool:
    claim_file = directory / layout.CLAIM
    claim = read_claim(claim_file)
    try:
        return claim is not None and holder_of(claim_file, claim).state is not HolderState.DEAD
    except FleetError:
        return True


def _markers(run: Path) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(read_regular(run / layout.RUN), type=RunFacts).markers()
    except (OSError, *UNREADABLE):
        return ()


def _is_used(spool: str) -> bool:
    """Return whether an agent has locked a spool, as `sflow_agent/logs/spool.py` does."""
    try:
        descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
