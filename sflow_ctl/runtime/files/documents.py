"""Writes documents that commands make for people: composed workflows, batch scripts, tables of jobs.

Files of a run directory are written by `runtime/record`.
"""

import os
from pathlib import Path

PRIVATE = 0o600
PRIVATE_PROGRAM = 0o700


def write_document(path: Path, text: str, *, is_private: bool, is_program: bool = False) -> None:
    """Write a text file. One that may hold secrets gets a mode that keeps others out, whatever the mask and the old mode.

    Raises: OSError.
    """
    mode = (PRIVATE_PROGRAM if is_program else PRIVATE) if is_private else (0o777 if is_program else 0o666)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        if is_private:
            os.fchmod(descriptor, mode)  # before anything is in it: the file may have been there
        os.ftruncate(descriptor, 0)
        file.write(text)
