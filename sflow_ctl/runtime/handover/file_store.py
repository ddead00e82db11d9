"""The files of the run directory for nodes that do not share it: takes what agents send, and gives what they ask for.

Owned by the output thread, which imports it for the first such message. It waits for nothing: agents repeat what is lost.
"""

import contextlib
import hashlib
import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from protocol.messages.packets import FileAnswer, FileEnd, FileGet, FilePut
from protocol.session.codec import MAX_LOG_BODY_BYTES

MAX_OPEN = 256
"""Files that are sent, and as many that are asked for; an agent has four at a time."""
MAX_DONE = 20_000
"""Transfers whose end is remembered: its answer may be lost."""
Key = tuple[int, int]
"""A node, and the number of a transfer of its agent."""


class _Incoming(Struct, eq=False):
    """A file that is being sent."""

    descriptor: int
    part: str
    offset: int = 0
    digest: Any = field(default_factory=lambda: hashlib.sha256(usedforsecurity=False))


class FileStore:
    """Files on their way. `run_directory` is absolute."""

    def __init__(self, run_directory: Path) -> None:
        self._root = str(run_directory)
        self._incoming: OrderedDict[Key, _Incoming] = OrderedDict()
        self._outgoing: OrderedDict[Key, int] = OrderedDict()
        self._done: OrderedDict[Key, int] = OrderedDict()

    def take(
        self, node: int, message: FilePut | FileGet, body: memoryview | bytes
    ) -> tuple[FileAnswer, bytes]:
        """Return the answer to a message of a node's agent, and the bytes that go with it."""
        try:
            if isinstance(message, FilePut):
                return self._put((node, message.transfer), message, body), b""
            return self._get((node, message.transfer), message)
        except _RefusedError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{error.strerror or error}"
        self._forget((node, message.transfer))
        return FileAnswer(transfer=message.transfer, offset=message.offset, problem=problem), b""

    def close(self) -> None:
        """Close all files; what has not arrived as a whole is removed."""
        for key in [*self._incoming, *self._outgoing]:
            self._forget(key)

    # ------------------------------------------------------------------ towards the run directory

    def _put(self, key: Key, message: FilePut, body: memoryview | bytes) -> FileAnswer:
        """Write the next bytes of a file. Raises: _RefusedError, OSError."""
        if key in self._done:
            return FileAnswer(transfer=key[1], offset=self._done[key], is_end=True)
        target = self._place(message.path)
        end = message.end
        if end is not None and end.is_directory:
            os.makedirs(target, exist_ok=True)  # noqa: PTH103 - text, as in all of this module
            return self._finish(key, 0)
        one = self._incoming.get(key)
        if one is None:
            if message.offset > 0:
                return FileAnswer(transfer=key[1], offset=0)  # its beginning was sent to another controller
            one = self._begin(key, target)
        self._incoming.move_to_end(key)
        if message.offset != one.offset:
            return FileAnswer(transfer=key[1], offset=one.offset)
        if end is None:
            _write(one, body)
            return FileAnswer(transfer=key[1], offset=one.offset)
        self._complete(one, target, end)
        del self._incoming[key]
        return self._finish(key, one.offset)

    def _begin(self, key: Key, target: str) -> _Incoming:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        part = f"{target}.part-{key[0]}-{key[1]}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        one = self._incoming[key] = _Incoming(os.open(part, flags, 0o600), part)
        if len(self._incoming) > MAX_OPEN:
            self._forget(next(iter(self._incoming)))
        return one

    def _complete(self, one: _Incoming, target: str, end: FileEnd) -> None:
        """Put a file that has arrived in its place. Raises: _RefusedError, OSError."""
        if (one.offset, one.digest.hexdigest()) != (end.bytes, end.sha256):
            raise _RefusedError("what arrived there has another digest than what was sent")
        os.fchmod(one.descriptor, end.mode & 0o777)
        os.utime(one.descriptor, ns=(end.mtime_ns, end.mtime_ns))
        os.rename(one.part, target)  # noqa: PTH104
        os.close(one.descriptor)  # late errors of a file system over the network show here

    def _finish(self, key: Key, size: int) -> FileAnswer:
        self._done[key] = size
        if len(self._done) > MAX_DONE:
            self._done.popitem(last=False)
        return FileAnswer(transfer=key[1], offset=size, is_end=True)

    # ------------------------------------------------------------------ from the run directory

    def _get(self, key: Key, message: FileGet) -> tuple[FileAnswer, bytes]:
        """Return bytes of a file. Raises: _RefusedError, OSError."""
        if not (0 < message.count <= MAX_LOG_BODY_BYTES and message.offset >= 0):
            raise _RefusedError("so many bytes are not given at a time")
        descriptor = self._outgoing.get(key)
        if descriptor is None:
            descriptor = self._outgoing[key] = self._open(message.path)
            if len(self._outgoing) > MAX_OPEN:
                self._forget(next(iter(self._outgoing)))
        self._outgoing.move_to_end(key)
        data = os.pread(descriptor, message.count, message.offset)
        is_end = len(data) < message.count
        return FileAnswer(transfer=key[1], offset=message.offset, is_end=is_end), data

    def _open(self, relative: str) -> int:
        path = self._place(relative)
        real = os.path.realpath(path)
        if not real.startswith(f"{os.path.realpath(self._root)}/"):
            raise _RefusedError(f"{path} leads out of the run directory")
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _RefusedError("it is not in the controller's run directory either") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _RefusedError("it is not a regular file in the controller's run directory")
        return descriptor

    # ------------------------------------------------------------------ both

    def _place(self, relative: str) -> str:
        """Return the path of a file of a task's directory. Raises: _RefusedError."""
        parts = relative.split("/")
        if len(parts) < 2 or parts[0].startswith(".") or {"", ".", ".."} & {*parts} or "\0" in relative:
            raise _RefusedError("it is not in a task's directory")
        path = f"{self._root}/{relative}"
        parent = os.path.realpath(os.path.dirname(path))  # noqa: PTH120
        if not parent.startswith(f"{os.path.realpath(self._root)}/"):
            raise _RefusedError("its directory leads out of the run directory")
        return path

    def _forget(self, key: Key) -> None:
        one = self._incoming.pop(key, None)
        if one is not None:
            with contextlib.suppress(OSError):
                os.close(one.descriptor)
            with contextlib.suppress(OSError):
                os.unlink(one.part)  # noqa: PTH108
        descriptor = self._outgoing.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)


class _RefusedError(Exception):
    """Says why a transfer is refused, as a sentence without its subject."""


def _write(one: _Incoming, body: memoryview | bytes) -> None:
    view = memoryview(body)
    one.digest.update(view)
    while len(view):
        written = os.pwrite(one.descriptor, view, one.offset)
        one.offset, view = one.offset + written, view[written:]
