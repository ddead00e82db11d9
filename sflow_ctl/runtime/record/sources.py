"""The workflow files of a run as they were when it began, by their digests: a run uses its own copy, and says so.

Made by `planning.py` and kept in `run.json`; `cli` asks which have changed since. And the source of its Python packages.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from protocol.digest import sha256
from sflow_ctl.plan.fetches import Package
from sflow_ctl.runtime.record.durable import read_regular


class SourceFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workflow file."""

    path: str
    """Absolute."""
    sha256: str
    """Of its content when the run began, or was last resumed from it."""
    is_included: bool = False
    """Another one includes it; it is not given on a command line."""


def package_source(recorded: Sequence[Package]) -> Callable[[str], Package]:
    """Return what describes Python packages, each once; a resumed run's are as they were `recorded`, whatever they are now."""
    known = {one.source: one for one in recorded}

    @cache
    def package_of(path: str) -> Package:
        from sflow_ctl.runtime.files.packages import described  # few runs have packages

        return known.get(path) or described(Path(path))

    return package_of


def source_files(files: Iterable[Path], included: Iterable[Path] = ()) -> tuple[SourceFile, ...]:
    """Return the regular ones of these files and of those that they include; a pipe cannot be read again, or have changed."""
    found = []
    for file, is_included in (*((file, False) for file in files), *((file, True) for file in included)):
        digest = _digest(file)
        if digest is not None:
            found.append(SourceFile(str(file.absolute()), digest, is_included))
    return tuple(found)


def changed_files(sources: Sequence[SourceFile]) -> list[Path]:
    """Return the files whose content is another one now. One that is not there, or not on this host, is not known to be."""
    return [Path(one.path) for one in sources if _digest(Path(one.path)) not in (None, one.sha256)]


def _digest(path: Path) -> str | None:
    try:
        return sha256(read_regular(path)).hex()
    except OSError:
        return None


def matching_paths(pattern: str) -> list[str]:
    """Return the paths that match a pattern, in the order of their names."""
    from glob import glob  # asked for few workflows

    return sorted(glob(pattern, recursive=True))  # noqa: PTH207 - of any directory
