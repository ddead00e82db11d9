"""Watches the activity of ranks: whether their logs grow and their GPUs are used.

Looks as often as the limits need. A log's size is one system call, so no log has to be followed for it.
Utilisation is asked for in a thread, since a broken driver may be slow. A rank that cannot be observed never
counts as idle.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.facts import ActivityKind
from protocol.messages.node import Gpu
from protocol.messages.rank_spec import RankSpec
from protocol.text.ansi import text_of_line
from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.line_pattern import LinePattern
from sflow_agent.core.events import IdleChanged
from sflow_agent.core.poll_schedule import InactivityTimer
from sflow_agent.logs.spool import log_size
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.worker import Workers

MAX_GPU_REST_S = 1.0
"""The longest interval: a driver remembers its last second at most, and less on some GPUs."""


MAX_READ_BYTES = 256 * 1024
"""Of what a log has grown by between two looks: its end. What an agent has handed over is kept for longer."""
LINE_END = lazy_pattern(rb"\r\n|\r|\n")


class Watched(Struct):
    """One kind of activity of one rank that is watched."""

    silence: InactivityTimer
    log: str = ""
    log_bytes: int = 0
    lines: LinePattern | None = None
    """Of the log only lines that match count; None counts all."""
    file: str = ""
    """Where the rank may say how far it is: it counts in place of the log once it is there."""
    file_seen: tuple[int, int] | None = None
    """Its size and time."""
    is_file_used: bool = False
    """This attempt has written it."""
    uuids: tuple[str, ...] = ()


class ActivityWatch:
    """All ranks that are watched. `warn` is called once for each text."""

    def __init__(
        self,
        workers: Workers,
        gpus: Sequence[Gpu],
        driver: GpuDriver,
        log_path: Callable[[str], str],
        warn: Callable[[str], None],
    ) -> None:
        self._gpus, self._driver = gpus, driver
        self._log_path = log_path
        self._warn = warn
        self._workers = workers
        self._watched: dict[tuple[RankId, ActivityKind], Watched] = {}
        self._agenda: list[tuple[float, int, tuple[RankId, ActivityKind], Watched]] = []
        """A heap; entries of ranks that are no longer watched are ignored."""
        self._number = itertools.count()
        self._answers: list[tuple[tuple[RankId, ActivityKind], Watched, dict[str, int | None] | OSError]] = []

    def watch(self, spec: RankSpec, now: float) -> None:
        """Start to watch a rank that has just been started."""
        assert spec.hang is not None
        if spec.hang.no_output_s is not None:
            silence = InactivityTimer(spec.hang.no_output_s, now)
            self._begin((spec.rank, "output"), Watched(silence, log=self._log_path(spec.log)), now)
        if spec.hang.stalled_s is not None:
            silence = InactivityTimer(spec.hang.stalled_s, now)
            file = spec.env.get("SFLOW_PROGRESS_FILE", "")
            pattern = LinePattern(spec.hang.progress_lines) if spec.hang.progress_lines else None
            log = self._log_path(spec.log)
            watched = Watched(silence, log=log, lines=pattern, file=file, file_seen=_seen(file))
            self._begin((spec.rank, "progress"), watched, now)
        if spec.hang.no_gpu_use_s is not None:
            uuids = self._uuids(spec)
            if uuids:
                silence = InactivityTimer(spec.hang.no_gpu_use_s, now)
                self._begin((spec.rank, "gpus"), Watched(silence, uuids=uuids), now)

    def unwatch(self, rank: RankId) -> None:
        """Stop watching a rank."""
        self._watched.pop((rank, "output"), None)
        self._watched.pop((rank, "gpus"), None)
        self._watched.pop((rank, "progress"), None)

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._answers:
            return 0.0
        return self._agenda[0][0] if self._agenda else None

    def poll(self, now: float) -> list[IdleChanged]:
        """Look at the ranks that are due; return which became idle, and which are active again."""
        changed: list[IdleChanged] = []
        while self._agenda and self._agenda[0][0] <= now:
            _, _, key, watched = heappop(self._agenda)
            if self._watched.get(key) is not watched:
                continue
            if watched.uuids:
                self._ask(key, watched)
                continue
            self._observe(key, watched, _has_moved(watched), now, changed)
        answers, self._answers = self._answers, []
        for key, watched, answer in answers:
            if self._watched.get(key) is watched:
                self._observe(key, watched, self._is_used(answer), now, changed)
        return changed

    def _begin(self, key: tuple[RankId, ActivityKind], watched: Watched, now: float) -> None:
        self._watched[key] = watched
        self._look_at(now, key, watched)

    def _look_at(self, at: float, key: tuple[RankId, ActivityKind], watched: Watched) -> None:
        heappush(self._agenda, (at, next(self._number), key, watched))

    def _observe(
        self,
        key: tuple[RankId, ActivityKind],
        watched: Watched,
        has_life: bool,
        now: float,
        changed: list[IdleChanged],
    ) -> None:
        if watched.silence.observe(has_life, now):
            changed.append(IdleChanged(*key, watched.silence.is_quiet))
        rest_s = watched.silence.rest_s
        self._look_at(now + (min(rest_s, MAX_GPU_REST_S) if watched.uuids else rest_s), key, watched)

    # ------------------------------------------------------------------ GPUs

    def _uuids(self, spec: RankSpec) -> tuple[str, ...]:
        """Return the names of the rank's GPUs; empty, and a warning, if they cannot be watched."""
        gpus = [self._gpus[index] for index in spec.gpus if index < len(self._gpus)]
        if gpus and all(gpu.uuid and not gpu.simulated for gpu in gpus):
            return tuple(gpu.uuid for gpu in gpus)
        why = "they are simulated" if any(gpu.simulated for gpu in gpus) else "no NVIDIA driver answers here"
        self._warn(
            f"{spec.rank.attempt.task}: no_gpu_use_for has no effect, its GPUs cannot be watched: {why}"
        )
        return ()

    def _ask(self, key: tuple[RankId, ActivityKind], watched: Watched) -> None:
        uuids = watched.uuids
        self._workers.run(
            uuids,
            lambda: self._driver.use(uuids),
            lambda answer: self._answers.append((key, watched, answer)),
        )

    def _is_used(self, answer: dict[str, int | None] | OSError) -> bool:
        if isinstance(answer, OSError):
            self._warn(f"the use of GPUs cannot be read: {answer.strerror}")
            return True
        for uuid, percent in answer.items():
            if percent is None:
                self._warn(
                    f"the driver does not report the use of {uuid}: no_gpu_use_for has no effect with it"
                )
        return any(percent != 0 for percent in answer.values())


def _has_moved(watched: Watched) -> bool:
    """Return whether a rank has said something since the last look: in its file of progress if it writes one, else in its log."""
    seen = _seen(watched.file)
    if seen != watched.file_seen:
        watched.file_seen, watched.is_file_used = seen, seen is not None
        return True
    if watched.lines is not None and not watched.is_file_used:
        return _has_new_line(watched, watched.lines)
    size = log_size(watched.log)
    has_grown, watched.log_bytes = size != watched.log_bytes, size
    return has_grown and not watched.is_file_used


def _has_new_line(watched: Watched, pattern: LinePattern) -> bool:
    """Return whether a whole line that matches has come since the last look. A log may begin anew."""
    size = log_size(watched.log)
    begin = watched.log_bytes if watched.log_bytes <= size else 0
    try:
        with open(watched.log, "rb") as log:  # noqa: PTH123 - text, as everywhere here
            begin = max(begin, size - MAX_READ_BYTES)
            log.seek(begin)
            new = log.read(size - begin)
    except OSError:
        return False  # not there yet
    *lines, rest = LINE_END.split(new)
    watched.log_bytes = begin + len(new) - len(rest)
    return any(pattern.is_in(text_of_line(line)) for line in lines)


def _seen(path: str) -> tuple[int, int] | None:
    """Return size and time of a file; None for one that is not there."""
    try:
        info = os.stat(path) if path else None  # noqa: PTH116 - as for logs
    except OSError:
        return None
    return None if info is None else (info.st_size, info.st_mtime_ns)
