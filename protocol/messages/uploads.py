"""What is uploaded where: targets, files, and the outcome. Parts of the order `UploadFiles` and of its answer.

`UploadJob` is what the program `sflow_agent.uploader` reads, `UploadLine` what it prints. Agents start it for tasks, the
controller for the archive of a whole run. No credentials are in any of these.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

OnUploadError = Literal["warn", "fail"]
AddressingStyle = Literal["auto", "virtual", "path"]
MAX_LISTED_FILES = 500
"""Files named in one outcome; the others are only counted."""
MAX_LISTED_PROBLEMS = 50
MAX_PROBLEM_CHARACTERS = 500


class UploadPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the parts of an upload."""


class StorageTarget(UploadPart, frozen=True, kw_only=True):
    """Where files are uploaded: a bucket that speaks S3, or a directory. Empty fields are not given."""

    name: str
    type: Literal["s3", "directory", "plugin"]
    bucket: str = ""
    region: str = ""
    prefix: str = ""
    """Before all keys; or the folder in the directory."""
    endpoint_url: str = ""
    """The server's address; empty for the one of the region."""
    storage_class: str = ""
    addressing_style: AddressingStyle | None = None
    """None is `path` with an `endpoint_url`, else `auto`."""
    path: str = ""
    """Absolute; of a directory."""
    uri: str = ""
    """Of a plug-in, which stores the key `k` under `URI/k`."""


class FileUpload(UploadPart, frozen=True, kw_only=True):
    """Which files of a task are uploaded, and under which names."""

    target: str
    """The name of the target."""
    pattern: str
    """A path, or a pattern of paths; relative to the task's directory, or absolute."""
    to: str = ""
    """The key; with a `/` at its end the folder; empty for the file's own name."""
    label: str = ""
    """Added to the name of each file, before its extension: tells the files of replicas apart."""
    on_error: OnUploadError = "warn"


class UploadedFile(UploadPart, frozen=True, kw_only=True):
    """A file that is in its target now."""

    path: str
    """Where it was, below the task's directory if it was there."""
    address: str
    """`s3://BUCKET/KEY`, or the path of the copy."""
    bytes: int


class UploadProblem(UploadPart, frozen=True, kw_only=True):
    """Something that was not uploaded."""

    text: str
    """The sentence."""
    is_failure: bool = False
    """Its upload has `on_error: fail`."""
    missing: int | None = None
    """Nothing was found for the upload with this index: another node of the task may have it."""


class UploadOutcome(UploadPart, frozen=True, kw_only=True):
    """What became of an upload; of many files and problems the first are listed."""

    files: tuple[UploadedFile, ...] = ()
    count: int = 0
    """Of all files that were uploaded."""
    bytes: int = 0
    problems: tuple[UploadProblem, ...] = ()
    further_problems: int = 0
    """Problems that are not listed. Those with `on_error: fail` are listed first."""


class UploadJob(UploadPart, frozen=True, kw_only=True):
    """What the program is to upload."""

    directories: tuple[str, ...] = ()
    """Absolute. Relative patterns are looked for in the first, and if nothing is there in the others."""
    files: tuple[FileUpload, ...]
    targets: tuple[StorageTarget, ...]
    archive: str = ""
    """A directory: all of it is packed as one archive, which is uploaded for the only entry of `files`."""
    scratch: str = ""
    """A directory for that archive."""


class UploadProgress(UploadPart, frozen=True, kw_only=True, tag="progress"):
    """How far the program is; printed at most every `PROGRESS_EVERY_S`."""

    text: str


class UploadEnd(UploadPart, frozen=True, kw_only=True, tag="end"):
    """The last line of the program."""

    outcome: UploadOutcome


PROGRESS_EVERY_S = 10.0
UploadLine = UploadProgress | UploadEnd

UPLOADER = ("-I", "-X", "utf8", "-m", "sflow_agent.uploader")
"""The arguments of the interpreter that start the program."""
UPLOADER_GRACE_S = 5.0
"""Between SIGTERM, at which parts that were sent are taken back, and SIGKILL."""
_QUOTED = 300


def line_said(line: bytes | bytearray) -> UploadLine | None:
    """Return what a line of the program's output says; None for one that a library has printed."""
    try:
        said: UploadLine = msgspec.json.decode(line, type=UploadLine)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return said


def last_error(printed: bytes) -> str:
    """Return the last line that the program printed as an error, as the end of a sentence; empty if there is none."""
    lines = printed.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:_QUOTED]}" if lines else ""


def failed(files: Sequence[FileUpload], text: str) -> UploadOutcome:
    """Return the outcome of an upload of which nothing is known to have arrived."""
    is_failure = any(one.on_error == "fail" for one in files)
    return UploadOutcome(problems=(UploadProblem(text=text, is_failure=is_failure),))


def limited(outcome: UploadOutcome) -> UploadOutcome:
    """Return an outcome that lists no more than fits into a message; failures come before warnings."""
    problems = sorted(outcome.problems, key=lambda one: not one.is_failure)
    kept = tuple(
        msgspec.structs.replace(one, text=one.text[:MAX_PROBLEM_CHARACTERS])
        for one in problems[:MAX_LISTED_PROBLEMS]
    )
    return UploadOutcome(
        files=outcome.files[:MAX_LISTED_FILES],
        count=max(outcome.count, len(outcome.files)),
        bytes=outcome.bytes,
        problems=kept,
        further_problems=outcome.further_problems + len(problems) - len(kept),
    )
