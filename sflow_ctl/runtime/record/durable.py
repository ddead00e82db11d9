"""Writes files that survive a crash of this machine: a temporary name, fsync, rename, fsync of the directory.

A reader sees the old content or the new one, never a part; a full disk leaves the old file and no temporary
one. Every file of ours in a run directory is written here, except the journal, the logs and `sflow.log`,
which grow.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import msgspec

from protocol.machine.loop_signals import QuietThread

Content = bytes | Iterable[bytes]
"""A file's content, also in pieces."""
UNREADABLE = (msgspec.DecodeError, RecursionError)
"""What a decoder raises for a file or message that is not what it should be, one that is nested without end included."""

_WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What file systems without hard links say of them: FAT, and many that are programs (FUSE). Source: link(2)."""


def write_durably(path: Path, content: Content, mode: int = 0o600) -> None:
    """Replace a file. Raises: OSError naming the file; the old content is still there then."""
    _replace(path, content, mode, syncs=True)
    sync_directory(path.parent)


def write_whole(path: Path, content: Content, mode: int = 0o600) -> None:
    """Replace a file; after a crash of this machine it has this content or the one before. Raises: OSError naming the file."""
    _replace(path, content, mode, syncs=True)


def write_for_now(path: Path, content: Content, mode: int = 0o600) -> None:
    """Replace a file that means nothing after a crash of this machine. Raises: OSError naming the file."""
    _replace(path, content, mode, syncs=False)


def write_new(path: Path, content: Content, mode: int = 0o600) -> None:
    """Make a file in a directory that no reader knows yet. Raises: OSError naming the file.

    The caller syncs the directory and its files, with `sync_together`, and then renames it.
    """
    _write(path, path, content, mode, syncs=False)


def create_durably(path: Path, content: Content, mode: int = 0o600) -> None:
    """Make a file that does not exist yet, complete from its first moment.

    Raises: FileExistsError if the file exists; OSError. Of several callers exactly one succeeds, also on network
    file systems. Source: link(2). On a file system without hard links the file is empty for a moment.
    """
    temporary = _write_temporary(path, content, mode, syncs=True)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        if temporary.stat().st_nlink != 2:  # else NFS has made it, and answered no to a repetition
            raise
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        _write(path, path, content, mode, syncs=True)
    finally:
        _remove(temporary)
    sync_directory(path.parent)


def open_regular(path: Path | str) -> IO[bytes]:
    """Open a file of ours to read. Raises: OSError; also for a FIFO or device, which would block or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path | str) -> bytes:
    """Return the content of a file of ours. Raises: OSError; also for a FIFO or device."""
    with open_regular(path) as file:
        return file.read()


def open_to_append(path: Path) -> IO[bytes]:
    """Open a private file of ours that grows, unbuffered. Raises: OSError; also for a symbolic link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable. File systems without support are skipped."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # EINVAL on some network file systems
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_together(files: Iterable[Path], directories: Iterable[Path]) -> None:
    """Make files, and the names in directories, durable at the same time. Raises: OSError naming the file, for the first error.

    A disk or a file server has one wait for all then, not one for each. Without threads they are synced one after the other.
    """
    errors: list[OSError] = []

    def sync(one: Callable[[Path], None], path: Path) -> None:
        try:
            one(path)
        except OSError as error:
            error.filename = error.filename or str(path)
            errors.append(error)

    threads: list[QuietThread] = []
    for one, paths in ((_sync_file, files), (sync_directory, directories)):
        for path in paths:
            thread = QuietThread(sync, "sync", (one, path))
            try:
                thread.start()
            except RuntimeError:  # a limit of processes
                sync(one, path)
            else:
                threads.append(thread)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: Content, mode: int, *, syncs: bool) -> None:
    temporary = _write_temporary(path, content, mode, syncs=syncs)
    try:
        temporary.rename(path)
    except OSError:
        _remove(temporary)
        raise


def _write_temporary(path: Path, content: Content, mode: int, *, syncs: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{os.urandom(3).hex()}")
    _write(temporary, path, content, mode, syncs=syncs)
    return temporary


def _write(target: Path, path: Path, content: Content, mode: int, *, syncs: bool) -> None:
    """Write a new file; one that cannot be written is removed. Errors name `path`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, mode)
    try:
        try:
            for piece in (content,) if isinstance(content, bytes) else content:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            if syncs:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _remove(target)
        error.filename = error.filename or str(path)
        raise


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()
