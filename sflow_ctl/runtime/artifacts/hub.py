"""Fetches a snapshot of a model or dataset hub.

The hub's own library downloads it into its own cache, and a link leads there.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from sflow_ctl.plan.fetches import HubSnapshot
from sflow_ctl.runtime.artifacts.hub_process import DownloadReport, DownloadRequest
from sflow_ctl.runtime.artifacts.transfer import Cut, FetchError, Progress, unchecked_mark
from sflow_ctl.runtime.children import memory_file

_MODULE = "sflow_ctl.runtime.artifacts.hub_process"
_QUOTED_BYTES = 500


class HubTransfer:
    """The transfer of one snapshot."""

    def __init__(self, snapshot: HubSnapshot) -> None:
        self.progress = Progress(snapshot.artifact, snapshot.uri)
        self._snapshot = snapshot
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, stop: threading.Event) -> None:
        """Return when the link leads to the snapshot. Raises: FetchError, Cut, OSError."""
        started = time.monotonic()
        report = self._download(stop)
        assert report.snapshot is not None
        link = Path(self._snapshot.link)
        if report.unchecked:
            unchecked_mark(link).parent.mkdir(parents=True, exist_ok=True)
            unchecked_mark(link).touch()  # before the link, which alone would count as whole
            self.progress.is_warning = True
            self.progress.outcome = (
                "is used as it is in the cache and may be incomplete: the hub could not be asked"
                f" ({report.unchecked}); the next run asks again"
            )
        _link(link, report.snapshot)
        if not report.unchecked:
            unchecked_mark(link).unlink(missing_ok=True)
        self.progress.elapsed_s = time.monotonic() - started

    def cut(self) -> None:
        """Kill the library's process."""
        if self._process is not None:
            self._process.kill()

    def _download(self, stop: threading.Event) -> DownloadReport:
        wanted = self._snapshot
        request = DownloadRequest(wanted.repo, wanted.repo_type, wanted.revision, wanted.inside)
        command = [sys.executable, "-I", "-m", _MODULE, msgspec.json.encode(request).decode()]
        last = DownloadReport()
        # In its own session, so that a terminal's Ctrl-C reaches only us; the end of its stdin ends it.
        with (
            os.fdopen(memory_file("hub-stderr"), "w+b") as stderr,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            ) as process,
        ):
            self._process = process
            if stop.is_set():
                self.cut()
            assert process.stdout is not None
            for line in process.stdout:
                last = msgspec.json.decode(line, type=DownloadReport)
                self._note(last)
            process.wait()
            if stop.is_set():
                raise Cut
            if last.snapshot is not None:
                return last
            if last.cause is not None:
                raise FetchError(last.cause, last.hint)
            said = os.pread(
                stderr.fileno(), _QUOTED_BYTES, max(0, os.fstat(stderr.fileno()).st_size - _QUOTED_BYTES)
            )
        cause = f"the hub's library ended with {process.returncode}: {said.decode(errors='replace').strip()}"
        raise FetchError(cause, "try `hf download` with the same repository")

    def _note(self, report: DownloadReport) -> None:
        if report.total_bytes:
            self.progress.received_bytes = max(self.progress.received_bytes, report.received_bytes)
            self.progress.total_bytes = report.total_bytes


def _link(link: Path, directory: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.urandom(4).hex()}")
    temporary.symlink_to(directory)
    temporary.rename(link)
