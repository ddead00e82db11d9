"""Keeps what agents have measured, in a thread: a slow disk must delay neither the scheduler nor the agents' facts.

The controller gives it every `Measured` and answers the agent at once; what waits to be written is limited here. Blocks are
stored as they come, so a fleet costs the controller no more than its bytes. Nothing here fails a run.
"""

import contextlib
import os
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from protocol.ids import RankId
from protocol.machine.loop_signals import QuietThread
from protocol.messages.facts import Measured
from protocol.messages.telemetry import MarkedWindow
from sflow_ctl.runtime.record.durable import open_to_append, read_regular
from sflow_ctl.runtime.telemetry.files import TAIL, WHOLE, WINDOWS, NodeFile, folder, node_file

if TYPE_CHECKING:
    from sflow_ctl.runtime.telemetry.publishing import Publisher

CLOSE_WITHIN_S = 10.0
MAX_WAITING = 2000
"""Messages of all agents that wait to be written."""
MOST_BYTES, LEAST_BYTES, ALL_BYTES = 32 << 20, 4 << 20, 1 << 30
"""Limits of the file of one node: it is thinned beyond them. Fewer bytes for each where there are many nodes."""


class StoredWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file of windows."""

    node: int
    window: MarkedWindow


class TelemetryRecorder:
    """The measurements of one run. `take` is called by the controller's loop; the thread begins with the first message."""

    def __init__(
        self,
        directory: Path,
        nodes: Sequence[tuple[int, str]],
        warn: Callable[[str], None],
        openmetrics: str | int | None = None,
    ) -> None:
        """`nodes` are numbers and names by position; `warn` is called in the thread that calls `take` or `close`."""
        self._directory = directory.absolute()
        self._nodes = nodes
        self._warn = warn
        self._limit = max(LEAST_BYTES, min(MOST_BYTES, ALL_BYTES // max(1, len(nodes))))
        self._publisher: Publisher | None = None
        if openmetrics is not None:
            from sflow_ctl.runtime.telemetry import publishing  # a server, which few runs have

            self._publisher = publishing.Publisher(openmetrics)
        self._wanted: queue.SimpleQueue[tuple[int, Measured, list[MarkedWindow]] | None] = queue.SimpleQueue()
        self._problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._said: set[str] = set()
        self._newest: dict[int, tuple[int, int]] = {}
        """By node, the agent and the number of its newest message."""
        self._prepared: dict[int, int] = {}
        """By node, the agent whose rows its file of newest rows has."""
        self._dropped: dict[int, int] = {}
        self._refused = 0
        self._thread: QuietThread | None = None

    # ------------------------------------------------------------------ the controller's side

    def take(self, node: int, message: Measured, is_own: Callable[[int, RankId], bool]) -> None:
        """Take in a message; one that comes again is ignored. `is_own` says of which ranks a node may speak."""
        position = message.agent_incarnation, message.number
        if position <= self._newest.get(node, (0, 0)):
            return
        self._newest[node] = position
        self._dropped[node] = message.dropped
        self._say_problems()
        if self._wanted.qsize() >= MAX_WAITING:
            self._refused += 1
            return
        if self._thread is None:
            self._thread = QuietThread(self._work, "telemetry")
            self._thread.start()
        self._wanted.put((node, message, [one for one in message.windows if is_own(node, one.rank)]))

    def close(self) -> None:
        """Write the rest, within a limit."""
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join(CLOSE_WITHIN_S)
            if self._thread.is_alive():
                self._problems.put(f"measurements could not be written within {CLOSE_WITHIN_S:g} s")
        if self._publisher is not None:
            self._publisher.close()
        lost = self._refused + sum(self._dropped.values())
        if lost:
            self._problems.put(f"{lost} messages with measurements were dropped: the disk was too slow")
        self._say_problems()

    def _say_problems(self) -> None:
        while True:
            try:
                text = self._problems.get_nowait()
            except queue.Empty:
                return
            if text not in self._said:
                self._said.add(text)
                self._warn(text)

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            node, message, windows = wanted
            try:
                self._write(node, message)
                self._write_windows(node, windows)
            except OSError as error:
                self._problems.put(f"measurements cannot be written: {error.strerror}")
            if self._publisher is not None and message.frames and not message.is_whole:
                problem = self._publisher.take(*self._nodes[node], message.frames)
                if problem:
                    self._problems.put(problem)

    def _write(self, node: int, message: Measured) -> None:
        """Add the frames of a message to the files of its node. Raises: OSError."""
        if not message.frames:
            return
        of = node_file(self._directory, *self._nodes[node])
        if self._prepared.get(node) != message.agent_incarnation:
            self._prepare(of)
            self._prepared[node] = message.agent_incarnation
        _append(of, WHOLE if message.is_whole else TAIL, message.frames)
        if message.is_whole:
            _truncate(of)
            from sflow_ctl.runtime.telemetry.thinning import thinned_file  # with the first whole block

            thinned_file(_path(of, WHOLE), self._limit)

    def _prepare(self, of: NodeFile) -> None:
        """Keep the last rows of an agent before: a new one's first block does not repeat them. Raises: OSError."""
        folder(self._directory).mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            left = read_regular(_path(of, TAIL))
            if left:
                _append(of, WHOLE, left)
                _truncate(of)

    def _write_windows(self, node: int, windows: list[MarkedWindow]) -> None:
        if not windows:
            return
        folder(self._directory).mkdir(mode=0o700, exist_ok=True)
        number, _ = self._nodes[node]
        lines = [msgspec.json.encode(StoredWindow(node=number, window=one)) + b"\n" for one in windows]
        with open_to_append(folder(self._directory) / WINDOWS) as file:
            file.write(b"".join(lines))


def _path(of: NodeFile, ending: str) -> Path:
    return of.stem.with_name(of.stem.name + ending)


def _append(of: NodeFile, ending: str, content: bytes) -> None:
    """Add to a file; a part of it that a full disk took is removed again. Raises: OSError."""
    with open_to_append(_path(of, ending)) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if file.write(content) < len(content):
                raise OSError(28, "no space left on device")
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


def _truncate(of: NodeFile) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.truncate(_path(of, TAIL), 0)
