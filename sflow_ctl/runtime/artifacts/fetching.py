"""Fetches all artifacts of a plan in parallel before its first task starts."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, assert_never

from protocol.errors import ArtifactError, Finding
from protocol.machine.loop_signals import QuietThread
from sflow_ctl.plan.fetches import ContainerImage, Fetch, HubSnapshot, PluginFetch, WebFile
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.artifacts.transfer import Cut, FetchError, Patience, Progress, Transfer, unchecked_mark

AT_ONCE = 4
SHOWN_EVERY_S = 0.2
CUT_WITHIN_S = 3.0
"""How long a cancelled transfer may take; then it is left to end with the process."""


class FetchDisplay(Protocol):
    """Shows the progress of transfers. Called by the thread that waits."""

    def show(self, items: Sequence[Progress]) -> None:
        """Show the newest progress of all transfers; called several times a second."""

    def close(self) -> None:
        """Stop showing progress."""


def fetch_artifacts(
    plan: Plan, open_display: Callable[[], FetchDisplay], patience: Patience | None = None
) -> list[Progress]:
    """Fetch all artifacts; return how each arrived. Raises: ArtifactError with every failure.

    An interrupt ends all transfers; partial files are kept for the next run, under names that cannot be
    mistaken for complete files.
    """
    _make_directories(plan.directories)
    missing = [fetch for fetch in plan.fetches if not _is_cached(fetch)]
    transfers = [_transfer(fetch, patience or Patience()) for fetch in missing]
    if not transfers:
        return []
    display = open_display()
    batch = _Batch(transfers)
    try:
        batch.run(display)
    finally:
        batch.cut()
        display.close()
    if batch.failed:
        raise ArtifactError(
            [
                _finding(transfer.progress, fetch, error)
                for fetch, transfer in zip(missing, transfers, strict=True)
                if (error := batch.failed.get(transfer.progress.artifact)) is not None
            ]
        )
    return [transfer.progress for transfer in transfers]


class _Batch:
    """Transfers and the threads that run them. The first failure ends the others."""

    def __init__(self, transfers: Sequence[Transfer]) -> None:
        self.failed: dict[str, Exception] = {}
        """Maps artifacts to the causes of their failures."""
        self._transfers = transfers
        self._waiting = list(reversed(transfers))
        self._stop = threading.Event()
        # Not `Thread.join`: until Python 3.13, a join that a signal interrupts marks the thread as ended.
        self._all_ended = threading.Event()
        self._working = min(AT_ONCE, len(transfers))
        self._counting = threading.Lock()

    def run(self, display: FetchDisplay) -> None:
        """Show progress until all transfers have ended."""
        items = [transfer.progress for transfer in self._transfers]
        for number in range(self._working):
            # Daemons: a transfer that cannot be cancelled must not keep the process from ending.
            QuietThread(self._work, f"fetch-{number}").start()
        while not self._all_ended.wait(SHOWN_EVERY_S):
            display.show(items)
        display.show(items)

    def cut(self) -> None:
        """End the running transfers."""
        self._stop.set()
        deadline = time.monotonic() + CUT_WITHIN_S
        while not self._all_ended.is_set() and time.monotonic() < deadline:
            for transfer in self._transfers:
                transfer.cut()
            self._all_ended.wait(SHOWN_EVERY_S)

    def _work(self) -> None:
        while self._waiting and not self._stop.is_set():
            with contextlib.suppress(IndexError, Cut):
                self._run(self._waiting.pop())
        with self._counting:
            self._working -= 1
            if self._working == 0:
                self._all_ended.set()

    def _run(self, transfer: Transfer) -> None:
        try:
            transfer.run(self._stop)
            transfer.progress.is_done = True
        except Cut:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a thread: the one that waits raises it again
            self.failed[transfer.progress.artifact] = error
            self._stop.set()
            for other in self._transfers:
                if other is not transfer:
                    other.cut()


def _transfer(fetch: Fetch, patience: Patience) -> Transfer:
    """Return a transfer. Its module is imported here: a run with cached artifacts must not pay 40 ms for it."""
    match fetch:
        case WebFile():
            from sflow_ctl.runtime.artifacts.web import WebTransfer

            return WebTransfer(fetch, patience)
        case HubSnapshot():
            from sflow_ctl.runtime.artifacts.hub import HubTransfer

            return HubTransfer(fetch)
        case ContainerImage():
            from sflow_ctl.runtime.artifacts.images import ImageTransfer

            return ImageTransfer(fetch)
        case PluginFetch():
            from sflow_ctl.runtime.artifacts.plugin import PluginTransfer

            return PluginTransfer(fetch)
        case _:
            assert_never(fetch)


def _is_cached(fetch: Fetch) -> bool:
    """Return whether there is nothing to fetch and nothing to verify."""
    match fetch:
        case WebFile() | PluginFetch():
            return fetch.sha256 is None and os.path.exists(fetch.path)  # noqa: PTH110
        case HubSnapshot():
            is_there = os.path.exists(f"{fetch.link}/{fetch.inside}")  # noqa: PTH110 - the link is made last
            return is_there and not unchecked_mark(Path(fetch.link)).exists()
        case ContainerImage():
            return False
        case _:
            assert_never(fetch)


def _finding(progress: Progress, fetch: Fetch, error: Exception) -> Finding:
    """Return the finding of an expected error; raise any other again, which is our bug."""
    match error:
        case FetchError(cause=cause, hint=hint):
            pass
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            cause, hint = (
                f"no space left: {error}",
                "free some space, or choose another directory with --workspace-dir",
            )
        case OSError():
            cause, hint = str(error), "check that directory, or choose another one with --workspace-dir"
        case _:
            raise error
    what = f'Failed to download artifact "{progress.artifact}": {progress.uri}: {cause}'
    return Finding("artifact-not-fetched", what, fetch.where, hint)


def _make_directories(paths: Sequence[str]) -> None:
    for path in paths:
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"an artifact's directory cannot be made: {path}: {error.strerror}"
            hint = "make it, or point elsewhere with --artifact NAME=URI"
            raise ArtifactError.of("artifact-not-made", what, hint=hint) from error
