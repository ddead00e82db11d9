"""Fetches what a plug-in's scheme names: into a part beside its place, which gets its name when it is whole."""

import os
import shutil
import threading
import time
from pathlib import Path

from sflow_ctl.plan.fetches import PluginFetch
from sflow_ctl.planner.phases.fetches import shown_uri
from sflow_ctl.runtime.artifacts.checksum import has_sum, note_sum, sha256_of
from sflow_ctl.runtime.artifacts.child_process import ChildProcess
from sflow_ctl.runtime.artifacts.partial_file import ABANDONED_AFTER_S
from sflow_ctl.runtime.artifacts.plugin_process import PluginRequest
from sflow_ctl.runtime.artifacts.transfer import FetchError, Progress

_MODULE = "sflow_ctl.runtime.artifacts.plugin_process"


class PluginTransfer:
    """The transfer of one file or directory."""

    def __init__(self, wanted: PluginFetch) -> None:
        self.progress = Progress(wanted.artifact, shown_uri(wanted.uri))
        self._wanted, self._target = wanted, Path(wanted.path)
        subject = f"the plug-in of {wanted.scheme}://"
        hint = "its own documentation says what it needs"
        self._process = ChildProcess(_MODULE, subject, hint, self.progress)

    def run(self, stop: threading.Event) -> None:
        """Return when it is there, with its checksum. Raises: FetchError, Cut, OSError."""
        wanted = self._wanted
        if os.path.lexists(self._target) and self._has_right_sum():
            self.progress.outcome = f"is cached in {self._target}"
            return
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        started = time.monotonic()
        part = self._target.with_name(f".{self._target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
        try:
            self._process.run(PluginRequest(wanted.scheme, wanted.uri, str(part)), stop)
            self._check_sum(part)
            _sync(part)
            self._put_in_place(part)
        finally:
            _remove(part)
        if wanted.sha256 is not None:
            note_sum(self._target, wanted.sha256)
        self.progress.elapsed_s = time.monotonic() - started

    def cut(self) -> None:
        """Kill the plug-in's process."""
        self._process.kill()

    def _has_right_sum(self) -> bool:
        self.progress.note = "checking"
        wanted = self._wanted.sha256
        return wanted is None or (self._target.is_file() and has_sum(self._target, wanted))

    def _check_sum(self, part: Path) -> None:
        wanted = self._wanted.sha256
        if wanted is None:
            return
        if not part.is_file():
            what = "it is a directory, which has no sha256"
            raise FetchError(what, "drop sha256, or name a file")
        found = sha256_of(part)
        if found != wanted:
            cause = f"its SHA-256 is {found}, the workflow expects {wanted}"
            raise FetchError(cause, "correct sha256 in the workflow if the new content is the right one")

    def _put_in_place(self, part: Path) -> None:
        """Give it its name. Where another run was quicker with a directory, that one stays."""
        if not os.path.lexists(self._target) or (self._target.is_file() and part.is_file()):
            part.rename(self._target)
        elif self._wanted.sha256 is not None:
            _remove(self._target)
            part.rename(self._target)

    def _remove_abandoned(self) -> None:
        """Remove parts of processes that were killed."""
        for path in self._target.parent.glob(f".{self._target.name}.*.part"):
            if time.time_ns() / 1e9 - path.lstat().st_mtime > ABANDONED_AFTER_S:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """See files written before they count as whole. Raises: OSError."""
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if one.is_file():
            with one.open("rb") as file:
                os.fsync(file.fileno())
