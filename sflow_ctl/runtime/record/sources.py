"""The workflow files of a run as they were when it began, by their digests: a run uses its own copy, and says so.

Made by `planning.py` and kept in `run.json`; `cli` asks which have changed since.
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import msgspec

from sflow_ctl.runtime.record.durable import read_regular


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits.

    By the interpreter's own module, as `random` does: `hashlib` loads OpenSSL, which takes 4 ms of each run's start.
    """
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            made = import_module(name).sha256(data)
        except ImportError:
            continue
        return str(made.hexdigest())
    raise ImportError("this interpreter has no SHA-256")


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
        return digest_of(read_regular(path))
    except OSError:
        return None
