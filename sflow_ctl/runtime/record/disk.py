"""Explains a failed write to the run directory: which file system it is, and the remedy."""

import errno
import os

from sflow_ctl.core.states import Reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_reason(error: OSError, path: os.PathLike[str]) -> Reason:
    """Return the reason for a run whose record cannot be written: `disk_full`, or `record` for anything else."""
    name = error.filename or os.fspath(path)
    if error.errno in _FULL:
        return Reason(
            "disk_full",
            f"the file system of {os.fspath(path)} is full: {error.strerror}",
            hint=f"free some space there (df -h {os.fspath(path)}), then resume the run",
        )
    return Reason(
        "record", f"cannot write {name}: {error.strerror or error}", hint="resume the run elsewhere"
    )
