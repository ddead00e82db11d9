"""What a run in Slurm jobs leaves in its directory while it lives, so that `--resume` can adopt its agents: its keys among it.

Agents on other nodes outlive controller and supervisor for their orphan grace. Only its owner can read the file: it is written
and read in directories that are this user's and closed to others. `handover.py` writes it, `adoption.py` reads it.
"""

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular, write_durably
from sflow_ctl.runtime.supervision.succession import Succession, decoded, encoded


def leave(succession: Succession) -> None:
    """Write the file, unless others could read it. The plan's secrets are not in it."""
    directory = succession.run_directory
    if exposure(directory) is None:
        with contextlib.suppress(OSError):  # a full disk: the run can only be started again then
            content = encoded(msgspec.structs.replace(succession, plan=b""))
            write_durably(directory / layout.SUCCESSION, content)


def left(directory: Path) -> Succession | str:
    """Return what the last controller of a run has left; else why there is nothing that may be used, as a sentence."""
    problem = exposure(directory)
    if problem is not None:
        return problem
    path = directory / layout.SUCCESSION
    try:
        found = path.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            return f"others can write or read {path}"
        return decoded(read_regular(path))
    except FileNotFoundError:
        return "its keys were lost with its supervisor"
    except (OSError, *UNREADABLE):
        return f"{path} cannot be read"


def exposure(directory: Path) -> str | None:
    """Return why keys are not safe in a run's directory, as a sentence; None where only its owner gets at them."""
    for path in (directory, directory / layout.OURS):
        try:
            found = path.lstat()
        except OSError as error:
            return f"{path} cannot be looked at: {error.strerror}"
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return f"{path} is not this user's directory, so no keys are kept there"
        if found.st_mode & 0o077:
            return f"{path} is open to others, so no keys are kept there (chmod 700)"
    return None
