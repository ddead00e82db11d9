"""Packs a run directory as one zip. Links stay links. Pipes and sockets, and what only the run itself needs, are left out."""

import contextlib
import io
import os
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

COMPRESSION_LEVEL = 3
"""Logs become as small as with 6, nearly, in half of the time."""
_LEFT_OUT = (".sflow/connection.json", ".sflow/controller.lock", ".sflow/nonce")
"""Keys, and files that mean something only while a run is controlled."""
_BLOCK_BYTES = 1 << 20


def pack(directory: Path, archive: Path) -> list[str]:
    """Write the archive; return what is missing in it, as sentences. Raises: OSError."""
    missing = []
    with (
        os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as packed,
    ):
        for path, status in _entries(directory):
            name = path.relative_to(directory).as_posix()
            if name in _LEFT_OUT or path == archive:
                continue
            try:
                source = _opened(path, status)
            except OSError as error:
                missing.append(f"{name} cannot be read: {error.strerror}")
                continue
            with source:
                _add(packed, path, f"{directory.name}/{name}", status, source)
    return missing


def _entries(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield files, links and empty directories, sorted."""
    for root, folders, files in os.walk(directory):
        folders.sort()
        links = [one for one in folders if Path(root, one).is_symlink()]
        for name in sorted((*files, *links)):
            with contextlib.suppress(FileNotFoundError):
                yield Path(root, name), Path(root, name).lstat()
        if not folders and not files:
            yield Path(root), Path(root).lstat()


def _opened(path: Path, status: os.stat_result) -> IO[bytes]:
    """Return the content of a regular file; nothing for what has none. Raises: OSError."""
    return path.open("rb") if stat.S_ISREG(status.st_mode) else io.BytesIO()


def _add(packed: zipfile.ZipFile, path: Path, name: str, status: os.stat_result, source: IO[bytes]) -> None:
    is_folder = stat.S_ISDIR(status.st_mode)
    modified = max(time.localtime(status.st_mtime)[:6], (1980, 1, 1, 0, 0, 0))  # what the format can hold
    entry = zipfile.ZipInfo(name + "/" * is_folder, modified)
    entry.external_attr = (status.st_mode & 0xFFFF) << 16
    entry.create_system = 3  # Unix: what the attributes mean
    entry.compress_type = zipfile.ZIP_DEFLATED
    if stat.S_ISLNK(status.st_mode):
        packed.writestr(entry, str(path.readlink()))
    elif is_folder:
        packed.writestr(entry, b"")
    elif stat.S_ISREG(status.st_mode):
        with packed.open(entry, "w", force_zip64=True) as target:
            while block := source.read(_BLOCK_BYTES):
                target.write(block)
