"""Does an `UploadJob`: finds the files, names them, sends them, and says what became of each."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from protocol.messages.uploads import (
    PROGRESS_EVERY_S,
    FileUpload,
    StorageTarget,
    UploadedFile,
    UploadJob,
    UploadOutcome,
    UploadProblem,
    UploadProgress,
)
from protocol.text.counted import counted
from protocol.text.object_keys import KeyRefusedError, address, object_key
from protocol.text.sizes import size_text
from sflow_agent.uploader.finding import FoundFile, TooManyFilesError, find
from sflow_agent.uploader.stores import DirectoryStore, Store, StoreError

ARCHIVE_NAME = "upload.zip.part"
Tell = Callable[[UploadProgress], None]


class EndedError(KeyboardInterrupt):
    """The program must end. Libraries know its base as the reason to stop a transfer in order."""


class _Send:
    """One file on its way."""

    def __init__(self, upload: FileUpload, target: StorageTarget, file: FoundFile, key: str) -> None:
        self.upload, self.target, self.file, self.key = upload, target, file, key


class _Progress:
    """How far the whole job is; reported now and then."""

    def __init__(self, tell: Tell, files: int, total_bytes: int) -> None:
        self._tell, self._files, self._bytes = tell, files, total_bytes
        self.done = self._sent = 0
        self._lock = threading.Lock()
        self._next = time.monotonic() + PROGRESS_EVERY_S

    def sent(self, count: int) -> None:
        """Count further bytes; report it when that is due."""
        with self._lock:
            self._sent += count
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + PROGRESS_EVERY_S
            sizes = f"{size_text(min(self._sent, self._bytes))} of {size_text(self._bytes)}"
            text = f"{self.done} of {counted(self._files, 'file')}, {sizes}"
        self._tell(UploadProgress(text=text))


class _Work:
    """The state of one job."""

    def __init__(self, job: UploadJob, tell: Tell) -> None:
        self._job, self._tell = job, tell
        self._targets = {target.name: target for target in job.targets}
        self._stores: dict[str, Store] = {}
        self._broken: dict[str, tuple[str, int, bool]] = {}
        """Targets that take nothing: why, how many further files that concerns, whether one of them must arrive."""
        self.files: list[UploadedFile] = []
        self.problems: list[UploadProblem] = []

    def outcome(self) -> UploadOutcome:
        """Return what became of everything so far."""
        more = [
            UploadProblem(
                text=f"{why}; so {counted(count, 'further file')} not uploaded", is_failure=is_failure
            )
            for why, count, is_failure in self._broken.values()
            if count
        ]
        return UploadOutcome(
            files=tuple(self.files),
            count=len(self.files),
            bytes=sum(file.bytes for file in self.files),
            problems=(*self.problems, *more),
        )

    def add_problem(self, upload: FileUpload, text: str, missing: int | None = None) -> None:
        """Note what was not uploaded."""
        is_failure = upload.on_error == "fail"
        self.problems.append(UploadProblem(text=text, is_failure=is_failure, missing=missing))

    # ------------------------------------------------------------------ before

    def plan(self) -> list[_Send]:
        """Return all files with their keys, in order."""
        sends: list[_Send] = []
        taken: dict[tuple[str, str], str] = {}
        for index, upload in enumerate(self._job.files):
            target = self._targets[upload.target]
            for file in self._found(index, upload):
                try:
                    key = object_key(target, upload.to, file.path, upload.label)
                except KeyRefusedError as error:
                    self.add_problem(upload, f"{file.shown}: {error}")
                    continue
                first = taken.get((target.name, key))
                if first is None:
                    taken[target.name, key] = file.path
                    sends.append(_Send(upload, target, file, key))
                elif first != file.path:
                    where = address(target, key)
                    self.add_problem(upload, f"{file.shown} has the same name as {first}, which is {where}")
        return sends

    def _found(self, index: int, upload: FileUpload) -> list[FoundFile]:
        try:
            found = find(upload.pattern, self._job.directories)
        except (OSError, TooManyFilesError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            self.add_problem(upload, f"{upload.pattern}: {text}")
            return []
        if not found:
            self.add_problem(upload, f"{upload.pattern}: there is no such file", missing=index)
        if len(found) > 1 and upload.to and not upload.to.endswith("/"):
            text = f'{upload.pattern} is {counted(len(found), "file")}, which cannot all be "{upload.to}": end it with "/"'
            self.add_problem(upload, text)
            return []
        return found

    # ------------------------------------------------------------------ sending

    def send(self, one: _Send, progress: _Progress) -> None:
        """Send a file, unless its target is known to take none."""
        name, is_failure = one.target.name, one.upload.on_error == "fail"
        if name in self._broken:
            why, count, was_failure = self._broken[name]
            self._broken[name] = why, count + 1, was_failure or is_failure
            return
        where = address(one.target, one.key)
        try:
            if name not in self._stores:
                self._stores[name] = _open(one.target)
            self._stores[name].put(one.file.path, one.key, progress.sent)
        except StoreError as error:
            if error.is_final:
                self._broken[name] = f"target {name}: {error}", 0, False
            self.add_problem(one.upload, f"{one.file.shown} to {where}: {error}")
            return
        progress.done += 1
        self.files.append(UploadedFile(path=one.file.shown, address=where, bytes=one.file.bytes))


def upload(job: UploadJob, tell: Tell) -> UploadOutcome:
    """Do a job; return what became of it. An early end is a problem of each file that is left."""
    work = _Work(job, tell)
    left: list[_Send] = []
    try:
        with _packed(job, work) as packed:
            left = packed if job.archive else work.plan()
            progress = _Progress(tell, len(left), sum(one.file.bytes for one in left))
            while left:
                work.send(left[0], progress)
                left = left[1:]
    except EndedError:
        for one in left[:1]:
            work.add_problem(one.upload, f"{one.file.shown} was not uploaded completely")
        rest = left[1:]
        if rest:
            must = next((one.upload for one in rest if one.upload.on_error == "fail"), rest[0].upload)
            work.add_problem(must, f"{counted(len(rest), 'file')} not uploaded")
        if not left:
            work.add_problem(job.files[0], "nothing was uploaded")
    return work.outcome()


@contextlib.contextmanager
def _packed(job: UploadJob, work: _Work) -> Iterator[list[_Send]]:
    """Make the archive that a job asks for; it is removed at the end. Yields how it is to be sent."""
    if not job.archive:
        yield []
        return
    archive = Path(job.scratch, ARCHIVE_NAME)
    try:
        yield _archived(job, work, archive)
    finally:
        with contextlib.suppress(OSError):
            archive.unlink()


def _archived(job: UploadJob, work: _Work, archive: Path) -> list[_Send]:
    from sflow_agent.uploader.archive import pack  # zipfile, for whole runs only

    upload, directory = job.files[0], Path(job.archive)
    target = next(one for one in job.targets if one.name == upload.target)
    name = f"{directory.name}.zip"
    try:
        key = object_key(target, upload.to, name)
        for text in pack(directory, archive):
            work.add_problem(upload, text)
        return [_Send(upload, target, FoundFile(str(archive), name, archive.stat().st_size), key)]
    except KeyRefusedError as error:
        work.add_problem(upload, f"{name}: {error}")
    except OSError as error:
        work.add_problem(upload, f"the archive {archive} cannot be written: {error.strerror}")
    return []


def _open(target: StorageTarget) -> Store:
    """Return an open target. Raises: StoreError."""
    if target.type == "directory":
        return DirectoryStore(target)
    if target.type == "plugin":
        from sflow_agent.uploader.plugin import PluginStore  # few targets are one

        return PluginStore(target)
    from sflow_agent.uploader.s3 import S3Store  # boto3, half a second

    return S3Store(target)
