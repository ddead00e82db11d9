"""Copies files between a node that has a run directory of its own and the controller's. Runs in a thread.

A copy has the digest, the time of modification and the permissions of its original, and takes its place as a whole.
"""

import contextlib
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Sequence

from protocol.messages.handover import PATH_KINDS, ExpectedFile, ExpectedInput, FoundOutput, RecordedFile
from protocol.messages.packets import FileEnd, FileGet, FilePut
from protocol.text.counted import counted
from protocol.text.sizes import size_text
from sflow_agent.handover.digests import sha256_of
from sflow_agent.handover.problems import HandoverError
from sflow_agent.handover.transfers import IN_FLIGHT, PIECE_BYTES, Exchange, FileTransfers

MAX_TRIES = 10
"""How often a file is sent from its beginning: each time another controller has taken over."""
_SHARE = "raise `copy_limit` in `settings`, or put the run directory on a file system that all nodes see: --output-dir"


class RunDirectoryCopies:
    """What this node has of the run directory, and the way to the controller's."""

    def __init__(self, transfers: FileTransfers, run_directory: str, limit_bytes: int) -> None:
        self._transfers, self._root, self._limit = transfers, run_directory.rstrip("/"), limit_bytes

    def send_outputs(self, outputs: Sequence[FoundOutput]) -> None:
        """Send the files of a task's outputs to the controller. Raises: HandoverError, OSError."""
        files: dict[str, RecordedFile] = {}
        for output in outputs:
            if output.kind in PATH_KINDS or output.is_large:
                files |= _files_of(output)
        self.send_files(list(files.values()), "the files of its outputs")
        for output in outputs:
            if output.kind == "dir" and output.path and not output.files:
                self._send_directory(output.path)

    def send_files(self, files: Sequence[RecordedFile], what: str) -> None:
        """Send files to the controller. Raises: HandoverError, OSError."""
        self._check_limit((one.bytes for one in files), what, "from this node")
        for file in files:
            with self._transfers.exchange() as one:
                _send(one, file, self._relative(file.path))

    def hand_over(self, files: Sequence[RecordedFile]) -> tuple[str, str]:
        """Send the files of a checkpoint to the controller; return what is wrong, and the remedy. Raises: OSError."""
        try:
            self.send_files(files, "its files")
        except HandoverError as error:
            return str(error), error.hint
        return "", ""

    def fetch(self, inputs: Sequence[ExpectedInput]) -> None:
        """Fetch from the controller what this node does not have as it was recorded. Raises: HandoverError, OSError."""
        wanted = [
            (given, file)
            for given in inputs
            for file in given.files
            if file.path.startswith(f"{self._root}/") and not _is_here(file)
        ]
        self._check_limit((file.bytes or 0 for _, file in wanted), "the files of its inputs", "to this node")
        for given, file in wanted:
            try:
                self._fetch(file)
            except HandoverError as error:
                whose = f"its input {given.name} (from {given.source})"
                raise HandoverError(f"{whose} cannot be copied to this node: {error}", error.hint) from None

    # ------------------------------------------------------------------ one file

    def _relative(self, path: str) -> str:
        if not path.startswith(f"{self._root}/"):
            raise HandoverError(f"{path} is not in the run directory", "write it into the task's directory")
        return path[len(self._root) + 1 :]

    def _check_limit(self, sizes: Iterable[int], what: str, where: str) -> None:
        total = sum(sizes)
        if total > self._limit:
            text = f"{what} would have to be copied {where}, because it has a run directory of its own: they have"
            raise HandoverError(
                f"{text} {size_text(total)}, and the limit is {size_text(self._limit)}", _SHARE
            )

    def _send_directory(self, path: str) -> None:
        status = os.stat(path)  # noqa: PTH116 - text, as everywhere here
        end = FileEnd(
            bytes=0, mtime_ns=status.st_mtime_ns, mode=status.st_mode & 0o777, sha256="", is_directory=True
        )
        with self._transfers.exchange() as one:
            header = FilePut(transfer=one.number, path=self._relative(path), offset=0, end=end)
            one.say(header)
            while (answer := one.hear()) is None:
                one.say(header)
            if answer.head.problem:
                raise HandoverError(f"{path} cannot be made in the run directory: {answer.head.problem}")

    def _fetch(self, file: ExpectedFile) -> None:
        """Fetch a file to its place. Raises: HandoverError, OSError."""
        os.makedirs(os.path.dirname(file.path), 0o700, exist_ok=True)  # noqa: PTH103, PTH120
        with self._transfers.exchange() as one:
            part = f"{file.path}.part-{one.number}"
            try:
                _receive(one, part, self._relative(file.path))
                if file.sha256 and sha256_of(part) != file.sha256:
                    raise HandoverError(
                        "what arrived has another digest than was recorded",
                        "something has changed it since: run the task again that has written it",
                    )
                if file.mtime_ns is not None:
                    os.utime(part, ns=(file.mtime_ns, file.mtime_ns))
                os.rename(part, file.path)  # noqa: PTH104
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)  # noqa: PTH108


def _files_of(output: FoundOutput) -> dict[str, RecordedFile]:
    """Return the files to be sent, by path. Raises: HandoverError, OSError."""
    if output.count > len(output.files):
        raise HandoverError(
            f"its output {output.name} has {counted(output.count, 'file')}, of which {len(output.files)} are recorded: "
            "not all can be copied to the run directory, which this node does not share",
            "pack them into one file, or put the run directory on a file system that all nodes see: --output-dir",
        )
    files = {one.path: one for one in output.files}
    if output.kind == "manifest" and output.path not in files:
        status = os.stat(output.path)  # noqa: PTH116
        files[output.path] = RecordedFile(path=output.path, bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    return files


def _is_here(file: ExpectedFile) -> bool:
    """Return whether a file is on this node, as far as its size and time say. Raises: OSError."""
    try:
        status = os.stat(file.path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    if file.bytes is None:
        return True
    return status.st_size == file.bytes and file.mtime_ns in (None, status.st_mtime_ns)


def _send(one: Exchange, file: RecordedFile, relative: str) -> None:
    """Send a file that must be as it was recorded. Raises: HandoverError, OSError."""
    descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HandoverError(f"{file.path} is not a regular file")
        for _ in range(MAX_TRIES):
            if _send_once(one, descriptor, file, relative):
                return
    finally:
        os.close(descriptor)
    raise HandoverError(f"{file.path} could not be copied to the run directory: it was begun anew too often")


def _send_once(one: Exchange, descriptor: int, file: RecordedFile, relative: str) -> bool:
    """Send a file from its beginning; return False if the controller, another one by now, has not what it acknowledged."""
    digest = hashlib.sha256(usedforsecurity=False)
    in_flight: deque[tuple[FilePut, bytes]] = deque()
    sent = acknowledged = 0
    end: FileEnd | None = None
    while True:
        while sent < file.bytes and len(in_flight) < IN_FLIGHT:
            piece = os.pread(descriptor, min(PIECE_BYTES, file.bytes - sent), sent)
            if not piece:
                raise _changed(file)
            digest.update(piece)
            in_flight.append((FilePut(transfer=one.number, path=relative, offset=sent), piece))
            sent += len(piece)
            one.say(*in_flight[-1])
        if end is None and not in_flight:
            end = _end_of(descriptor, file, digest.hexdigest())
            in_flight.append((FilePut(transfer=one.number, path=relative, offset=sent, end=end), b""))
            one.say(*in_flight[-1])
        answer = one.hear()
        if answer is None:
            for header, piece in in_flight:
                one.say(header, piece)
            continue
        head = answer.head
        if head.problem:
            raise HandoverError(f"{file.path} cannot be copied to the run directory: {head.problem}")
        if head.is_end:
            return True
        if head.offset < acknowledged:
            return False
        acknowledged = head.offset
        while in_flight and in_flight[0][1] and in_flight[0][0].offset + len(in_flight[0][1]) <= acknowledged:
            in_flight.popleft()


def _end_of(descriptor: int, file: RecordedFile, sha256: str) -> FileEnd:
    """Return what a file is as a whole. Raises: HandoverError if that is not what was recorded."""
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (file.bytes, file.mtime_ns) or file.sha256 not in ("", sha256):
        raise _changed(file)
    return FileEnd(bytes=file.bytes, mtime_ns=file.mtime_ns, mode=status.st_mode & 0o777, sha256=sha256)


def _changed(file: RecordedFile) -> HandoverError:
    text = f"{file.path} changed while it was copied to the run directory: something still writes it"
    return HandoverError(text, "let the program wait for its writers")


def _receive(one: Exchange, part: str, relative: str) -> None:
    """Write a file of the controller's run directory to `part`. Raises: HandoverError, OSError."""
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0):
        asked: dict[int, FileGet] = {}
        next_offset, size = 0, None
        while size is None or asked:
            while size is None and len(asked) < IN_FLIGHT:
                asked[next_offset] = FileGet(
                    transfer=one.number, path=relative, offset=next_offset, count=PIECE_BYTES
                )
                one.say(asked[next_offset])
                next_offset += PIECE_BYTES
            answer = one.hear()
            if answer is None:
                for request in asked.values():
                    one.say(request)
                continue
            head, body = answer
            if head.problem:
                raise HandoverError(head.problem)
            if asked.pop(head.offset, None) is None:
                continue  # answered already
            _write(descriptor, body, head.offset)
            if head.is_end:
                size = min(size or head.offset + len(body), head.offset + len(body))
        os.ftruncate(descriptor, size)


def _write(descriptor: int, body: bytes, offset: int) -> None:
    view = memoryview(body)
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        offset, view = offset + written, view[written:]
