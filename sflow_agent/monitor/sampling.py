"""What is measured on this node at the moment, when it is due, and what is on its way to the controller. Pure.

One sampler serves all monitors: each scope at the finest interval that any active monitor asks for. `sampler`
reads the values, `monitoring` sends what `ReadingQueue` releases.
"""

from collections import Counter, deque

from msgspec import Struct, field

from protocol.messages.facts import Sampled
from protocol.messages.monitor import MonitorOrders, NodeMonitor, RankWindow, Reading, Scope

FIRST_AFTER_S = 0.25
"""Rates need two looks: the first reading follows this soon, or after the interval if that is shorter."""
SEND_EVERY_S = 1.0
MAX_IN_FLIGHT = 4
"""Messages without an answer: what the controller has to write down is bounded."""
MAX_PER_MESSAGE = 2000
MAX_QUEUED = 40_000
"""Readings kept while the controller is late; the oldest are dropped then. About 5 MB, a third of the largest frame."""


class ActiveMonitors:
    """Which monitors measure now: those of running tasks, and those without tasks."""

    def __init__(self, orders: MonitorOrders) -> None:
        self._monitors = orders.monitors
        self._of_task: dict[str, list[int]] = {}
        """The monitors that measure while a task runs, by their positions."""
        for number, monitor in enumerate(orders.monitors):
            for task in dict.fromkeys(monitor.tasks):
                self._of_task.setdefault(task, []).append(number)
        self._ranks: Counter[int] = Counter()
        """Running ranks by monitor."""
        self.gpu_fields = _union([one.gpu_fields for one in orders.monitors if _has_gpus(one)])
        """The fields of all monitors: they do not change during a run."""

    def started(self, task: str) -> bool:
        """Note that a process of a task has been started; return whether a monitor begins with it."""
        numbers = self._of_task.get(task, ())
        self._ranks.update(numbers)
        return any(self._ranks[number] == 1 for number in numbers)

    def ended(self, task: str) -> bool:
        """Note that a process of a task and its whole tree are gone; return whether a monitor ends with it."""
        numbers = self._of_task.get(task, ())
        self._ranks.subtract(numbers)
        return any(self._ranks[number] == 0 for number in numbers)

    def intervals(self) -> dict[Scope, float]:
        """Return the scopes to measure, each with its interval in seconds."""
        finest: dict[Scope, float] = {}
        for monitor in self._active():
            for one in monitor.scopes:
                finest[one.scope] = min(finest.get(one.scope, float("inf")), one.interval_ms / 1000)
        return finest

    def scripts(self) -> tuple[str, ...]:
        """Return the user's scripts that run meanwhile, each once."""
        return tuple(dict.fromkeys(one.script for one in self._active() if one.script))

    def _active(self) -> list[NodeMonitor]:
        return [one for number, one in enumerate(self._monitors) if not one.tasks or self._ranks[number] > 0]


class SampleTimes:
    """When each scope is measured next. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._intervals: dict[Scope, float] = {}
        self._due: dict[Scope, float] = {}

    def change(self, intervals: dict[Scope, float], now: float) -> tuple[list[Scope], list[Scope]]:
        """Take new intervals; return the scopes that begin, and those that end."""
        begun = [scope for scope in intervals if scope not in self._intervals]
        ended = [scope for scope in self._intervals if scope not in intervals]
        for scope in ended:
            del self._due[scope]
        for scope, interval_s in intervals.items():
            if scope in begun:
                self._due[scope] = now + min(interval_s, FIRST_AFTER_S)
            elif interval_s != self._intervals[scope]:
                self._due[scope] = min(self._due[scope], now + interval_s)
        self._intervals = dict(intervals)
        return begun, ended

    @property
    def scopes(self) -> list[Scope]:
        """Return the scopes that are measured."""
        return list(self._intervals)

    def next_at(self) -> float | None:
        """Return when the next scope is due."""
        return min(self._due.values(), default=None)

    def take_due(self, now: float) -> list[Scope]:
        """Return the scopes that are due; times that have been missed are skipped."""
        due = [scope for scope, at in self._due.items() if at <= now]
        for scope in due:
            interval_s = self._intervals[scope]
            missed = (now - self._due[scope]) // interval_s
            self._due[scope] += (missed + 1) * interval_s
        return due


class ReadingQueue(Struct):
    """Readings on their way to the controller: few messages at a time, and a limited number that waits."""

    gpu_fields: tuple[str, ...] = ()
    number: int = 0
    stored: int = 0
    dropped: int = 0
    _readings: deque[Reading] = field(default_factory=deque)
    _windows: list[RankWindow] = field(default_factory=list)
    _send_at: float | None = None

    def add(self, readings: list[Reading], now: float) -> None:
        """Queue readings; of too many, the oldest are dropped and counted."""
        self._readings.extend(readings)
        while len(self._readings) > MAX_QUEUED:
            self._readings.popleft()
            self.dropped += 1
        if readings and self._send_at is None:
            self._send_at = now + SEND_EVERY_S

    def add_window(self, window: RankWindow, now: float) -> None:
        """Queue what was found of a window; there is at most one for each rank."""
        self._windows.append(window)
        self._send_at = now

    def note_stored(self, number: int) -> None:
        """Note that the controller has taken the message of this number and those before."""
        self.stored = max(self.stored, min(number, self.number))

    def next_wakeup(self) -> float | None:
        """Return when `take` is due; None while nothing may be sent."""
        return self._send_at if self.number - self.stored < MAX_IN_FLIGHT else None

    def take(self, now: float, sent_at_ms: int, is_last: bool = False) -> list[Sampled]:
        """Return the messages to send now; the last ones need not wait for anything."""
        messages: list[Sampled] = []
        if not is_last and (self._send_at is None or now < self._send_at):
            return messages
        while (self._readings or self._windows) and (is_last or self.number - self.stored < MAX_IN_FLIGHT):
            count = min(len(self._readings), MAX_PER_MESSAGE)
            self.number += 1
            messages.append(
                Sampled(
                    number=self.number,
                    readings=tuple(self._readings.popleft() for _ in range(count)),
                    windows=tuple(self._windows),
                    gpu_fields=self.gpu_fields,
                    sent_at_ms=sent_at_ms,
                    dropped=self.dropped,
                )
            )
            self._windows.clear()
        if not self._readings and not self._windows:
            self._send_at = None
        return messages


def _has_gpus(monitor: NodeMonitor) -> bool:
    return any(one.scope == "gpu" for one in monitor.scopes)


def _union(of: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in of for name in names))
