"""Keeps the files of an output as `store` says, so that later attempts do not change them, and computes their digests."""

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence

from protocol.messages.handover import KEPT, OutputRule, RecordedFile
from sflow_agent.handover.digests import sha256_of
from sflow_agent.handover.problems import HandoverError

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def kept(
    rule: OutputRule, directory: str, paths: Sequence[str], number: int, notes: list[str]
) -> list[RecordedFile]:
    """Return files, by their paths below a task's directory, as they are kept. Raises: OSError, HandoverError."""
    if rule.store == "in_place":
        return [_found(f"{directory}/{path}", with_digest=rule.has_digest) for path in paths]
    target = f"{directory}/{KEPT}/{number}/{rule.name}"
    return [_kept(rule, f"{directory}/{path}", f"{target}/{path}", notes) for path in paths]


def target_of(rule: OutputRule, directory: str, path: str, number: int) -> str:
    """Return where the file or directory at a path below a task's directory is kept."""
    if rule.store == "in_place":
        return f"{directory}/{path}"
    return f"{directory}/{KEPT}/{number}/{rule.name}/{path}"


def _found(path: str, *, with_digest: bool, sha256: str = "") -> RecordedFile:
    """Return a file as it is. Raises: HandoverError if it changes meanwhile, OSError."""
    before = os.stat(path)  # noqa: PTH116 - text, as everywhere here
    digest = sha256 or (sha256_of(path) if with_digest else "")
    after = os.stat(path)  # noqa: PTH116
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise HandoverError(
            f"{path} changed while it was read: something still writes it",
            "let the program wait for its writers",
        )
    return RecordedFile(path=path, bytes=after.st_size, mtime_ns=after.st_mtime_ns, sha256=digest)


def _kept(rule: OutputRule, source: str, target: str, notes: list[str]) -> RecordedFile:
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
    part = f"{target}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)  # noqa: PTH108 - of an agent that was killed
    if rule.store == "symlink":
        os.symlink(source, part)  # noqa: PTH211
    elif rule.store == "hardlink":
        try:
            os.link(source, part)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            note = f"is copied: {error.strerror}, so it cannot be linked"
            if note not in notes:
                notes.append(note)
            return _copied(rule, source, part, target)
    else:
        return _copied(rule, source, part, target)
    os.rename(part, target)  # noqa: PTH104
    return _found(target, with_digest=rule.has_digest)


def _copied(rule: OutputRule, source: str, part: str, target: str) -> RecordedFile:
    """Copy a file, and compare the digests of both. Raises: HandoverError."""
    copy(source, part)
    before = sha256_of(source) if rule.has_digest else ""
    if rule.has_digest and sha256_of(part) != before:
        os.unlink(part)  # noqa: PTH108
        raise HandoverError(f"the copy of {source} is not what it was copied from", "look for a broken disk")
    os.rename(part, target)  # noqa: PTH104
    return _found(target, with_digest=False, sha256=before)


def copy(source: str, target: str) -> None:
    """Copy a file with its time of modification; it is on disk then. Raises: OSError."""
    shutil.copyfile(source, target)
    shutil.copystat(source, target)
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
