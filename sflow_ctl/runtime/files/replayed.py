"""Makes files that can be read only once readable again: `-`, `/dev/stdin`, and the pipes of `<(...)`.

A run with a preamble starts itself anew, with the same arguments. Called by `cli/execution.py` before that.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from protocol.errors import UsageError
from protocol.text.lazy_pattern import lazy_pattern

_DESCRIPTOR = lazy_pattern(r"/(?:dev/fd|proc/(?:self|thread-self)/fd)/(\d+)")


def make_readable_again(files: Sequence[Path], texts: Sequence[str]) -> None:
    """Replace the descriptors of pipes among `files` by files with the text that was read. Raises: UsageError for a FIFO."""
    for path, text in zip(files, texts, strict=True):
        number = _descriptor_of(path)
        if number is None:
            if path.is_file():
                continue
            what = f"{path} can be read only once, and the preamble of the settings reads it a second time"
            raise UsageError.of("file-not-readable", what, str(path), "write the workflow into a file")
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            file.seek(0)
            os.dup2(file.fileno(), number)  # inherited: bash and this program read it from its beginning


def _descriptor_of(path: Path) -> int | None:
    if str(path) in ("-", "/dev/stdin"):
        return 0
    match = _DESCRIPTOR.fullmatch(str(path))
    return None if match is None else int(match[1])
