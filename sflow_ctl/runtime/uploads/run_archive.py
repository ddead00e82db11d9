"""Uploads a run directory as one archive at the very end of a run, by the agent's uploader as a process of its own.

The summary in the archive does not know what becomes of it; the one in the run directory does. Called by `run/workflow.py`.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from protocol.machine.marks import RUN_MARKER
from protocol.messages.uploads import (
    UPLOADER,
    UPLOADER_GRACE_S,
    UploadJob,
    UploadOutcome,
    UploadProgress,
    failed,
    last_error,
    line_said,
)
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.uploads.progress import lines_about

LOOK_EVERY_S = 0.2
"""How soon a signal of the user's ends it."""


class EndOfUpload(Struct, frozen=True):
    """When an upload must end although it is not done."""

    at: float | None
    """Monotonic seconds; None for no limit."""
    is_hurried: Callable[[], bool]
    """Returns whether the user wants to wait for nothing more."""


def upload_run(
    plan: Plan, directory: Path, marker: str, end: EndOfUpload, log: RunLog, say: Callable[[str], object]
) -> UploadOutcome:
    """Upload the directory as the plan says; return what became of it, which the log and `say` have been given."""
    log.info("uploading the run directory")
    log.flush()
    outcome = _upload(plan, directory, marker, end, say)
    for line in lines_about("upload_all", outcome, log):
        say(line)
    return outcome


def _upload(
    plan: Plan, directory: Path, marker: str, end: EndOfUpload, say: Callable[[str], object]
) -> UploadOutcome:
    assert plan.upload_all is not None
    upload = plan.upload_all
    job = UploadJob(
        files=(upload,),
        targets=tuple(target for target in plan.storage if target.name == upload.target),
        archive=str(directory.absolute()),
        scratch=str(directory.absolute() / layout.OURS),
    )
    try:
        outcome, how = _run(job, {**os.environ, RUN_MARKER: marker}, end, say)
    except OSError as error:
        outcome, how = None, f"the uploader cannot be started: {error.strerror}"
    return outcome or failed(job.files, how)


def _run(
    job: UploadJob, environment: Mapping[str, str], end: EndOfUpload, say: Callable[[str], object]
) -> tuple[UploadOutcome | None, str]:
    """Return the program's outcome, or how it ended without one. Raises: OSError."""
    process = subprocess.Popen(
        (sys.executable, *UPLOADER),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as request:
                request.write(msgspec.json.encode(job))
            outcome, why = _follow(process, process.stdout, end, say)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        last = last_error(process.stderr.read(1 << 20))
    return outcome, why or f"the uploader ended with status {process.returncode}{last}"


def _follow(
    process: "subprocess.Popen[bytes]", output: IO[bytes], end: EndOfUpload, say: Callable[[str], object]
) -> tuple[UploadOutcome | None, str]:
    """Read what the program prints until it has ended; end it when its time is over."""
    os.set_blocking(output.fileno(), False)
    poller = select.poll()
    poller.register(output.fileno(), select.POLLIN)
    text, outcome, why = b"", None, ""
    kill_at: float | None = None
    while True:
        poller.poll(LOOK_EVERY_S * 1000)
        now = time.monotonic()
        if kill_at is None and (why := _why_it_must_end(end, now)):
            kill_at = now + UPLOADER_GRACE_S
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        if kill_at is not None and now > kill_at:
            return outcome, why
        data = output.read(1 << 20)
        if data == b"":
            return outcome, why
        *lines, text = (text + (data or b"")).split(b"\n")
        for line in lines:
            outcome = _taken(line, say) or outcome


def _taken(line: bytes, say: Callable[[str], object]) -> UploadOutcome | None:
    """Take in a line of the program's; return the outcome if it is one."""
    said = line_said(line)
    if isinstance(said, UploadProgress):
        say(f"uploading the run directory: {said.text}")
        return None
    return None if said is None else said.outcome


def _why_it_must_end(end: EndOfUpload, now: float) -> str:
    if end.is_hurried():
        return "the run directory was not uploaded: a signal ended it"
    if end.at is not None and now >= end.at:
        return "the run directory was not uploaded: the time for the run's end was over"
    return ""
