"""SHA-256 of cached files.

The sum is written beside the file, so a large file is not read again at every run.
"""

import hashlib
import os
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return 64 hexadecimal digits, lower case. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_sum(path: Path, digest: str) -> None:
    """Write the sum beside the file, as `sha256sum --check` reads it. Raises: OSError."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.sum")
    temporary.write_text(f"{digest}  {path.name}\n")
    temporary.rename(_note(path))


def has_sum(path: Path, digest: str) -> bool:
    """Return whether the file has that sum: by a note that is newer than it, else by reading it.

    Raises: OSError.
    """
    note = _note(path)
    try:
        is_current = note.stat().st_mtime_ns >= path.stat().st_mtime_ns
        noted = note.read_text().split()[0] if is_current else None
    except (FileNotFoundError, IndexError):
        noted = None
    if noted is None:
        noted = sha256_of(path)
        note_sum(path, noted)
    return noted == digest


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
