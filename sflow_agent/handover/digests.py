"""SHA-256 of files, computed where they are. Runs in a thread: files are large, and file systems may stall."""

import hashlib
import os
import stat
from collections.abc import Sequence

from protocol.messages.handover import RecordedFile

PIECE = 4 << 20


def sha256_of(path: str) -> str:
    """Return the digest of a regular file, hexadecimal. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        digest = hashlib.sha256(usedforsecurity=False)
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def sha256_of_all(directory: str, files: Sequence[RecordedFile]) -> str:
    """Return one digest of several files: that of their paths below `directory` and their digests; empty if one has none."""
    if not files or not all(one.sha256 for one in files):
        return ""
    if len(files) == 1:
        return files[0].sha256
    lines = (f"{one.sha256}  {one.path.removeprefix(f'{directory}/')}\n" for one in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
