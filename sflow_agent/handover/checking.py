"""Checks the files that an attempt is given, and makes copies or links of them for it. Runs in a thread."""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from protocol.messages.handover import ExpectedFile, ExpectedInput, ValueFile
from protocol.text.sizes import size_text
from protocol.typed_values import WrongTypeError, typed
from sflow_agent.handover.digests import sha256_of
from sflow_agent.handover.keeping import copy
from sflow_agent.handover.problems import HandoverError
from sflow_agent.handover.reading import read_small

KNOWN_DIGESTS = 10_000
SHOWN_DIGITS = 12


class _Identity(NamedTuple):
    """What tells one state of a file from another: a file with the same of all has not changed."""

    path: str
    device: int
    inode: int
    bytes: int
    changed_ns: int


class CheckedFiles:
    """Digests that were computed already: many attempts are given the same large file. Used by several threads."""

    def __init__(self) -> None:
        self._known: dict[_Identity, str] = {}
        self._lock = Lock()

    def check(self, expected: Sequence[ExpectedInput]) -> tuple[str, str]:
        """Check inputs, and stage them; return the first problem and its remedy, empty if all are as they should be."""
        for one in expected:
            try:
                for file in one.files:
                    self._check(one, file)
                for value in one.values:
                    _check_type(one, value)
                if one.stage is not None:
                    _stage(one)
            except HandoverError as error:
                return str(error), error.hint
            except OSError as error:
                what = f"its input {one.name} (from {one.source}) cannot be read: {error.strerror or error}"
                return f"{what}: {error.filename}" if error.filename else what, ""
        return "", ""

    def _check(self, given: ExpectedInput, file: ExpectedFile) -> None:
        """Check that a file is what was recorded. Raises: HandoverError, OSError."""
        whose = f"its input {given.name} (from {given.source})"
        try:
            status = os.stat(file.path)  # noqa: PTH116 - text, as everywhere here
        except (FileNotFoundError, NotADirectoryError):
            hint = "it was deleted, or this node does not see it"
            if file.bytes is not None:
                hint += ": run the task again that has written it, or let it `store: copy`"
            raise HandoverError(f"{whose} is not there: {file.path}", hint) from None
        if file.bytes is None:
            return
        hint = (
            "something has changed it since: run the task again that has written it, or let it `store: copy`"
        )
        if status.st_size != file.bytes:
            raise HandoverError(
                f"{whose} has changed: {file.path} has {size_text(status.st_size)}, and had {size_text(file.bytes)}",
                hint,
            )
        if not file.sha256:
            if file.mtime_ns is not None and status.st_mtime_ns != file.mtime_ns:
                raise HandoverError(
                    f"{whose} has changed: {file.path} was modified after it was recorded", hint
                )
            return
        found = self._digest(file.path, status)
        if found != file.sha256:
            raise HandoverError(
                f"{whose} has changed: the SHA-256 of {file.path} is {found[:SHOWN_DIGITS]}..., and was "
                f"{file.sha256[:SHOWN_DIGITS]}...",
                hint,
            )

    def _digest(self, path: str, status: os.stat_result) -> str:
        key = _Identity(path, status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = sha256_of(path)
            with self._lock:
                while len(self._known) >= KNOWN_DIGESTS:
                    del self._known[next(iter(self._known))]
                self._known[key] = known
        return known


def _check_type(given: ExpectedInput, value: ValueFile) -> None:
    """Check that a value in a file is of the type that the input has. Raises: HandoverError, OSError."""
    try:
        content = json.loads(read_small(value.path))
        typed(content if value.entry is None else content[value.entry], value.type)
    except WrongTypeError as error:
        raise HandoverError(
            f"its input {given.name}, from {given.source}: {error}, in {value.path}"
        ) from None
    except (ValueError, RecursionError, LookupError) as error:
        raise HandoverError(
            f"its input {given.name}, from {given.source}: {value.path} is not JSON: {error}"
        ) from None


def _stage(one: ExpectedInput) -> None:
    """Make the attempt's own file or directory. Raises: HandoverError, OSError."""
    os.makedirs(os.path.dirname(one.target), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
    if one.stage == "local":
        _check_owner(one)
    part = f"{one.target}.part"
    for path in (part, one.target):
        _remove(path)
    if one.stage == "link":
        os.symlink(one.path, part)  # noqa: PTH211
    elif stat.S_ISDIR(os.stat(one.path).st_mode):  # noqa: PTH116
        shutil.copytree(one.path, part, symlinks=True)
    else:
        copy(one.path, part)
    os.rename(part, one.target)  # noqa: PTH104


def _check_owner(one: ExpectedInput) -> None:
    """Check that the run's directory on this node is the user's own: others may write beside it.

    Raises: HandoverError, OSError.
    """
    root = local_root(one)
    status = os.lstat(root)
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise HandoverError(
            f"its input {one.name} cannot be copied to this node: {root} is another user's, or a link",
            "choose another directory with the setting `scratch`",
        )


def local_root(one: ExpectedInput) -> str:
    """Return the directory of the run on this node, below which a copy is: ROOT/TASK/INPUT/FILE."""
    return one.target.rsplit("/", 3)[0]


def remove_local(inputs: Sequence[ExpectedInput]) -> None:
    """Remove the copies that an attempt had on this node, and directories that are empty then."""
    for one in inputs:
        with contextlib.suppress(OSError):
            _remove(one.target)
        place = one.target
        for _ in range(3):
            place = place.rpartition("/")[0]
            with contextlib.suppress(OSError):
                os.rmdir(place)  # noqa: PTH106


def _remove(path: str) -> None:
    """Remove what an earlier attempt was given. Raises: OSError."""
    with contextlib.suppress(FileNotFoundError):
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
        shutil.rmtree(path) if is_directory else os.unlink(path)  # noqa: PTH108
