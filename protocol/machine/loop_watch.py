"""Notices that a loop stands still, says in what, and has a thread speak for it meanwhile.

A loop that is blocked in a file system that does not answer is not dead: what depends on it must not be given up. Both
sides' links keep such a thread. It opens no file and imports nothing, so that nothing can hold it up but a process that is
stopped, or code that keeps the interpreter. Used by the agent's loop and the controller's.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import NamedTuple

from protocol.machine.loop_signals import QuietThread

SHOWN_CHARACTERS = 200
SUSPENDED_S = 3.0
"""A look that comes so much too late says that the process did not run."""
_STANDARD = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
_SYNONYMS = {
    "open": "open",
    "stat": "stat",
    "exists": "stat",
    "is_file": "stat",
    "is_dir": "stat",
    "glob": "glob",
}
"""Functions of the standard library after which the work is named, by the one that was called."""

_NAMES_OF_PATHS = ("path", "dir", "file", "log", "program", "root", "candidate", "temporary")
"""Other texts may begin with a slash as well, and be keys."""


class Standstill(NamedTuple):
    """For how long a loop has stood still, and where."""

    seconds: float
    doing: str
    """"stat of /mnt/x (follower.py:123)"."""


MOVES = Standstill(0.0, "")
"""A loop that does not stand still."""


class LoopWatch:
    """What a thread can know of a loop. Made in the loop's own thread, which tells it when it waits for events."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._busy_since: float | None = None

    def waits(self) -> None:
        """Note that the loop has done all it had to do."""
        self._busy_since = None

    def works(self, now: float) -> None:
        """Note that events have come, which the loop handles from now on."""
        self._busy_since = now

    def standstill(self, now: float, longer_than_s: float) -> Standstill | None:
        """Return what has held the loop up for so long; None while it moves."""
        since = self._busy_since
        if since is None or now - since < longer_than_s:
            return None
        return Standstill(now - since, doing_of(self._thread))


class SpeakerThread:
    """The thread that speaks for a loop: calls `speak` about once in `every_s` while the loop stands still."""

    def __init__(self, watch: LoopWatch, every_s: float, speak: Callable[[float, Standstill], None]) -> None:
        self._watch = watch
        self._every_s = every_s
        self._speak = speak
        self._ended = threading.Event()
        self._looks = threading.Lock()
        self._looked_at: float | None = None
        self._gap_s = 0.0
        self._thread = QuietThread(self._run, "heartbeats")

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if self._thread.ident is None:
            self._looked_at = time.monotonic()  # a suspension may begin before the first look
            self._thread.start()

    def end(self) -> None:
        """Speak no more. Waits for nothing."""
        self._ended.set()

    def has_gap(self, now: float) -> bool:
        """Return whether `take_gap` would return more than 0: for each turn of a loop, without a lock."""
        looked_at = self._looked_at  # before the gap, which is written before it
        return self._gap_s > 0 or (looked_at is not None and now - looked_at - self._every_s > SUSPENDED_S)

    def take_gap(self, now: float) -> float:
        """Return for how long the process did not run, by the looks of this thread, since the last call.

        0 if it did, or if the thread has not begun.
        """
        if self._thread.ident is None:
            return 0.0  # nothing looks at the clock while the loop waits
        self._note_look(now)
        with self._looks:
            gap_s, self._gap_s = self._gap_s, 0.0
        return gap_s

    def _note_look(self, now: float) -> None:
        """Note that the process runs: whichever thread comes first after a suspension finds the gap."""
        with self._looks:
            gap_s = 0.0 if self._looked_at is None else now - self._looked_at - self._every_s
            if gap_s > SUSPENDED_S:
                self._gap_s += gap_s
            self._looked_at = now

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            now = time.monotonic()
            self._note_look(now)
            standstill = self._watch.standstill(now, self._every_s)
            if standstill is not None:
                self._speak(now, standstill)


def doing_of(thread: int) -> str:
    """Return in a few words what a thread does now: the call, the file it is about, and our line."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "an unknown place"
    ours = next((one for one in _outwards(frame) if not _is_standard(one.f_code)), frame)
    callee = _called_by(frame, ours)
    where = f"{os.path.basename(ours.f_code.co_filename)}:{ours.f_lineno}"  # noqa: PTH119 - pure text
    name = _SYNONYMS.get(callee, callee)
    path = next((path for one in _between(frame, ours) for path in _paths_of(one)), "")
    return (
        f"{name} of {path} ({where})"[:SHOWN_CHARACTERS] if path else f"{name} ({where})"[:SHOWN_CHARACTERS]
    )


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _between(inner: FrameType, outer: FrameType) -> Iterator[FrameType]:
    for one in _outwards(inner):
        yield one
        if one is outer:
            return


def _called_by(inner: FrameType, ours: FrameType) -> str:
    """Return the name of the function that our code has called; of our own function where that is not written in Python."""
    name = ours.f_code.co_name
    for one in _outwards(inner):
        if one is ours:
            break
        name = one.f_code.co_name
    return name.strip("_<>") or "work"


def _is_standard(code: CodeType) -> bool:
    return code.co_filename.startswith((_STANDARD, "<frozen"))


def _paths_of(frame: FrameType) -> Iterator[str]:
    """Yield the paths among the values of a function's variables; its arguments come first."""
    for name, value in frame.f_locals.items():
        if name == "self":  # what writes a file has its path
            value = getattr(value, "_path", value)
        is_named_so = isinstance(value, str) and any(word in name for word in _NAMES_OF_PATHS)
        text = value if is_named_so else value.__fspath__() if isinstance(value, os.PathLike) else ""
        if (
            isinstance(text, str)
            and "\n" not in text
            and (text.startswith("/") or ("/" in text and text is not value))
        ):
            yield text  # a path may be relative, other texts with a slash may be anything
