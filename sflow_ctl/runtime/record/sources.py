"""The workflow files of a run as they were when it began, by their digests: a run uses its own copy, and says so.

Made by `planning.py` and kept in `run.json`; `cli` asks which have changed since.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from protocol.digest import sha256
from sflow_ctl.runtime.record.durable import read_regular


class SourceFile(msgspec.Struct, frozen=True):
    """One workflow file."""

    path: str
    """Absolute."""
    sha256: str
    """Of its content when the run began, or was last resumed from it."""


def source_files(files: Iterable[Path]) -> tuple[SourceFile, ...]:
    """Return the regular ones of these files; a pipe cannot be read again, or have changed."""
    found = []
    for file in files:
        digest = _digest(file)
        if digest is not None:
            found.append(SourceFile(str(file.absolute()), digest))
    return tuple(found)


def changed_files(sources: Sequence[SourceFile]) -> list[Path]:
    """Return the files whose content is another one now. One that is not there, or not on this host, is not known to be."""
    return [Path(one.path) for one in sources if _digest(Path(one.path)) not in (None, one.sha256)]


def _digest(path: Path) -> str | None:
    try:
        return sha256(read_regular(path)).hex()
    except OSError:
        return None
