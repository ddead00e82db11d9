"""Explains a failed write to the run directory: which file system it is, and the remedy."""

import errno
import os
from pathlib import Path

from protocol.errors import DiskFullError, RunDirectoryError
from sflow_ctl.core.states import Reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_reason(error: OSError, path: os.PathLike[str]) -> Reason:
    """Return the reason for a run whose record cannot be written: `disk_full`, or `record` for anything else."""
    name = error.filename or os.fspath(path)
    if error.errno in _FULL:
        place = mount_point(Path(path))
        what = "the quota is used up" if error.errno == errno.EDQUOT else "the file system is full"
        return Reason(
            "disk_full",
            f"cannot write {name}: {what} ({place})",
            hint=f"free some space there (df -h {place}), then resume the run",
        )
    if error.errno == errno.ENOENT:
        text = f"the run directory was deleted, with its record and logs: {name} cannot be written"
        return Reason("record", text, hint="start the workflow anew")
    return Reason(
        "record", f"cannot write {name}: {error.strerror or error}", hint="resume the run elsewhere"
    )


def unwritable(error: OSError, what: str, place: Path, hint: str | None = None) -> RunDirectoryError:
    """Return the error of a command that cannot do `what` because of a failed write below `place`."""
    if error.errno in _FULL:
        reason = disk_reason(error, place)
        return DiskFullError.of("disk-full", f"{what}: {reason.text}", hint=reason.hint)
    return RunDirectoryError.of(
        "run-directory-not-writable",
        f"{what}: {error.strerror or error}",
        where=str(error.filename or place),
        hint=hint,
    )


def mount_point(path: Path) -> Path:
    """Return where the file system that a path is on, or would be on, is mounted."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.is_mount()), Path("/"))
