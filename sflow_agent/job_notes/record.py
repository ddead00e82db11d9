"""The file in which a watcher notes its job: before it is submitted, when its id is known, and when it has ended.

A watcher that is killed leaves its job running; the one of the next attempt, or of a resumed run, finds the file and adopts it.
"""

import contextlib
import os
from typing import Literal

import msgspec

FILE = ".sflow_job.json"
SCHEMA = "sflow.job.v1"


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a task's newest job."""

    key: str
    """Of this submission, made before it: by it the job is found if its id could not be noted any more."""
    digest: str
    """Of what it runs, and how."""
    state: Literal["submitting", "submitted", "ended"]
    id: str = ""
    exit_code: int | None = None
    reason: str = ""
    """Why it has ended, if what ran it knows; one of `JOB_REASONS`."""
    text: str = ""
    """That in words: "Slurm says TIMEOUT"."""
    schema: str = SCHEMA

    @property
    def is_open(self) -> bool:
        """Return whether the job may exist."""
        return self.state != "ended"


def said_at_end(record: JobRecord) -> str:
    """Return the last line of a watcher whose job has ended for a reason."""
    return f"job {record.id} has ended: {record.text}"


class RecordFile:
    """The file of one task."""

    def __init__(self, directory: str) -> None:
        self.path = f"{directory}/{FILE}"

    def read(self) -> JobRecord | None:
        """Return what the file says; None without one. Raises: OSError, ValueError for one that cannot be understood."""
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - text, as everywhere here
                return msgspec.json.decode(file.read(), type=JobRecord)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from error

    def write(self, record: JobRecord) -> None:
        """Replace the file; it is on the disk then. Raises: OSError."""
        part = f"{self.path}.part"
        with open(part, "wb") as file:  # noqa: PTH123
            file.write(msgspec.json.encode(record) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, self.path)  # noqa: PTH104
        with contextlib.suppress(OSError):  # a file system without it
            descriptor = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH120
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
