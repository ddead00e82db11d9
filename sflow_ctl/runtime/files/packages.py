"""Snapshots of Python packages: digests of what is in the workspace, and copies in the run directory.

A run has them from its beginning to its end, and when it is resumed. Called when a run with `packages` is planned and begins.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from protocol.errors import UsageError
from sflow_ctl.plan.fetches import Package
from sflow_ctl.planner.context import PackageError

MAX_FILES, MAX_BYTES = 10_000, 256 << 20
_SKIPPED = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
     "node_modules", ".ipynb_checkpoints", "sflow_output"}
)  # fmt: skip
"""Folders that do not count as parts of a package: caches, version control, environments, runs."""
_SKIPPED_SUFFIXES = (".pyc", ".pyo", ".swp", "~")


def described(path: Path) -> Package:
    """Return a package as it is now. Raises: PackageError."""
    try:
        status = path.stat()
    except OSError as error:
        raise PackageError(
            f"{path} cannot be read: {error.strerror}", "name a folder or a .py file"
        ) from error
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and path.suffix != ".py":
        raise PackageError(f"{path} is not a folder, and not a .py file", "name what Python can import")
    kind = "module" if not is_folder else "package" if (path / "__init__.py").exists() else "folder"
    whole, count, size = hashlib.sha256(), 0, 0
    try:
        for name, file in _files(path):
            content = file.read_bytes()
            count, size = count + 1, size + len(content)
            if count > MAX_FILES or size > MAX_BYTES:
                limit = f"{MAX_FILES} files and {MAX_BYTES >> 20} MiB"
                raise PackageError(f"{path} has more than {limit}", "name the folder of the code alone")
            whole.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    except OSError as error:
        raise PackageError(
            f"{error.filename} cannot be read: {error.strerror}", "make it readable"
        ) from error
    return Package(source=str(path), kind=kind, sha256=whole.hexdigest(), files=count, bytes=size)  # type: ignore[arg-type]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a package with their names in it, in order; links count as what they lead to."""
    if not path.is_dir():
        yield path.name, path
        return
    for directory, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name not in _SKIPPED and not name.endswith(".egg-info"))
        for name in sorted(files):
            file = Path(directory, name)
            if not name.endswith(_SKIPPED_SUFFIXES) and file.is_file():
                yield file.relative_to(path).as_posix(), file


def keep_packages(packages: Iterable[Package], directory: Path) -> None:
    """Copy packages into the run directory, unless their snapshots are there. Raises: UsageError for what has changed since."""
    for one in packages:
        target = directory / one.place
        if target.exists():
            continue
        part = target.parent.with_name(f"{target.parent.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        source = Path(one.source)
        for name, file in _files(source) if source.exists() else ():
            copy = part / one.name / name if source.is_dir() else part / one.name
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            shutil.copymode(file, copy)
        copied = part / one.name
        if not copied.exists() or described(copied).sha256 != one.sha256:
            shutil.rmtree(part, ignore_errors=True)
            what = f"package {one.source} is not what it was when the run was planned"
            raise UsageError.of("package-changed", what, hint="start the run again once nothing changes it")
        part.rename(target.parent)
