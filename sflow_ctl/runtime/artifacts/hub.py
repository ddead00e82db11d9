"""Fetches a snapshot of a model or dataset hub.

The hub's own library downloads it into its own cache, and a link leads there.
"""

import os
import threading
import time
from pathlib import Path

from sflow_ctl.plan.fetches import HubSnapshot
from sflow_ctl.runtime.artifacts.child_process import ChildProcess
from sflow_ctl.runtime.artifacts.hub_process import DownloadRequest
from sflow_ctl.runtime.artifacts.transfer import Progress, unchecked_mark

_MODULE = "sflow_ctl.runtime.artifacts.hub_process"


class HubTransfer:
    """The transfer of one snapshot."""

    def __init__(self, snapshot: HubSnapshot) -> None:
        self.progress = Progress(snapshot.artifact, snapshot.uri)
        self._snapshot = snapshot
        hint = "try `hf download` with the same repository"
        self._process = ChildProcess(_MODULE, "the hub's library", hint, self.progress)

    def run(self, stop: threading.Event) -> None:
        """Return when the link leads to the snapshot. Raises: FetchError, Cut, OSError."""
        started = time.monotonic()
        wanted = self._snapshot
        request = DownloadRequest(wanted.repo, wanted.repo_type, wanted.revision, wanted.inside)
        report = self._process.run(request, stop)
        assert report.place is not None
        link = Path(wanted.link)
        if report.unchecked:
            unchecked_mark(link).parent.mkdir(parents=True, exist_ok=True)
            unchecked_mark(link).touch()  # before the link, which alone would count as whole
            self.progress.is_warning = True
            self.progress.outcome = (
                "is used as it is in the cache and may be incomplete: the hub could not be asked"
                f" ({report.unchecked}); the next run asks again"
            )
        _link(link, report.place)
        if not report.unchecked:
            unchecked_mark(link).unlink(missing_ok=True)
        self.progress.elapsed_s = time.monotonic() - started

    def cut(self) -> None:
        """Kill the library's process."""
        self._process.kill()


def _link(link: Path, directory: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.urandom(4).hex()}")
    temporary.symlink_to(directory)
    temporary.rename(link)
