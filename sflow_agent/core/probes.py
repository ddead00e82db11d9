"""Counts the results of probes' checks, decides when a probe triggers and when to report what it waits for. Pure.

Ports and logs report changes, so a threshold of 1 triggers at the moment the check holds; a higher threshold
counts again every `interval_s`, as the format says. Checks that poll (HTTP, programs, ports elsewhere) report
single results, and each counts. The checks themselves are in `sflow_agent.probes`; `core.agent` calls this.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import assert_never

from msgspec import Struct, field

from protocol.ids import ProbeKey, ProbeKind, RankId
from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, Probe, TcpCheck
from protocol.messages.facts import ProbeTriggered, ProbeWaiting

DETAIL_CHARACTERS = 500
MIN_LOOK_INTERVAL_S = 0.01
"""A zero interval would spin; the format's own tick was a second."""


def find_check(probes: Sequence[Probe], key: ProbeKey) -> tuple[Probe, Check]:
    """Return the check with this key, and the part of its probe that it belongs to. Raises: StopIteration, IndexError."""
    whole = next(probe for probe in probes if probe.kind == key.kind)
    number = key.number
    for part in whole.parts:
        if number < len(part.checks):
            return part, part.checks[number]
        number -= len(part.checks)
    raise IndexError(key.number)


def missing_text(check: Check) -> str:
    """Return what is missing for a check that has no result yet."""
    match check:
        case TcpCheck(host=None):
            return f"port {check.port} is not listening"
        case TcpCheck():
            return f"{check.host}:{check.port} has not accepted a connection"
        case LogCheck():
            log = "the log" if check.task is None else f"the log of {check.task}"
            times = f" {check.pattern.count} times" if check.pattern.count > 1 else ""
            return f'"{check.pattern.pattern}" is not in {log}{times}'
        case HttpCheck():
            return f"{check.url} has not answered"
        case ExecCheck():
            return f"{check.argv[0]} has not exited with 0"
        case _:
            assert_never(check)


REPORT_EVERY_S = 1.0
"""The first report waits as long: most services are ready before."""
OUTLIVES_S = 0.1
"""How long a process must live on after the log line that makes it ready: some servers print it, fail and exit."""


class Streak(Struct):
    """The positive results in a row of one check."""

    detail: str
    is_true: bool = False
    count: int = 0
    next_look: float | None = None
    """When a check that reports changes counts again; None when it does not, or is a poll."""


class PartState(Struct):
    """One probe of one rank, from the start of its process; of a list, one entry. Once true, it stays so."""

    probe: Probe
    armed_at: float
    """Monotonic seconds from which on results count."""
    streaks: dict[ProbeKey, Streak] = field(default_factory=dict)
    has_triggered: bool = False
    is_reported: bool = False
    """The controller is informed that it has triggered."""
    confirm_at: float | None = None
    """When the probe triggers by a log line, if the process is there by then."""
    detail: str = ""
    """What was seen, once it has triggered."""

    @classmethod
    def begin(cls, probe: Probe, first: int, now: float) -> "PartState":
        """Return the state of a part whose rank starts now; `first` is the number of its first check."""
        streaks = {
            ProbeKey(probe.kind, first + index): Streak(missing_text(check))
            for index, check in enumerate(probe.checks)
        }
        return cls(probe, now + probe.delay_s, streaks)

    @property
    def next_check(self) -> float | None:
        """When `wake` is due."""
        times = [self.confirm_at, *(streak.next_look for streak in self.streaks.values())]
        return min((time for time in times if time is not None), default=None)

    def observe(self, key: ProbeKey, is_true: bool, detail: str, now: float, is_poll: bool = False) -> bool:
        """Take a change of a check, or the result of a poll; return True when it triggers the probe.

        A key the probe does not have is ignored: it comes from the wire.
        """
        streak = self.streaks.get(key)
        if streak is None:
            return False
        streak.is_true = is_true
        streak.detail = detail[:DETAIL_CHARACTERS] or streak.detail
        if not is_true:
            streak.count, streak.next_look = 0, None
        elif now < self.armed_at:
            streak.next_look = None if is_poll else self.armed_at
        else:
            self._count(streak, now, is_poll)
        return self._has_just_triggered(now)

    def wake(self, now: float) -> bool:
        """Count the checks that are due; return True when that triggers the probe."""
        for streak in self.streaks.values():
            if streak.next_look is not None and streak.next_look <= now:
                self._count(streak, now, is_poll=False)
        return self._has_just_triggered(now)

    def process_completed(self) -> bool:
        """Trigger by a log line whose process has done all that it should; return whether there was one."""
        if self.confirm_at is None:
            return False
        self._trigger()
        return True

    def look_last(self, key: ProbeKey, is_true: bool, detail: str) -> bool:
        """Take the result of a check's last look; return True when the probe triggers by it.

        One look is one result, but all that a log has counts: it is not a matter of when one looks.
        """
        streak = self.streaks[key]
        streak.is_true = is_true
        streak.detail = detail[:DETAIL_CHARACTERS] or streak.detail
        is_log = isinstance(self._check_of(key), LogCheck)
        streak.count = (self.probe.threshold if is_log else streak.count + 1) if is_true else 0
        streak.next_look = None
        return self._has_just_triggered(None)

    def _check_of(self, key: ProbeKey) -> Check:
        return dict(zip(self.streaks, self.probe.checks, strict=True))[key]

    def missing(self) -> str:
        """Return what it waits for: "HTTP 503", "1 of 3 conditions: port 8000 is not listening"."""
        missing = [self._missing(streak) for streak in self.streaks.values() if not self._is_met(streak)]
        count = len(self.streaks)
        if self.confirm_at is not None:
            return f"its log line is there; the process must outlive it by {OUTLIVES_S:g} s"
        if count == 1:
            return "".join(missing)
        if not self.probe.needs_all:
            return ", and ".join(missing)[:DETAIL_CHARACTERS]
        return f"{count - len(missing)} of {count} conditions: {', '.join(missing)}"[:DETAIL_CHARACTERS]

    def _missing(self, streak: Streak) -> str:
        if not streak.count:
            return streak.detail
        return f"{streak.detail}, {streak.count} of {self.probe.threshold} times in a row"

    def _is_met(self, streak: Streak) -> bool:
        return streak.count >= self.probe.threshold

    def _count(self, streak: Streak, now: float, is_poll: bool) -> None:
        streak.count += 1
        looks_again = not is_poll and not self._is_met(streak)
        streak.next_look = now + max(self.probe.interval_s, MIN_LOOK_INTERVAL_S) if looks_again else None

    def _has_just_triggered(self, now: float | None) -> bool:
        """Return True when it triggers now; `now` is None once the process has ended, and its line needs no confirmation."""
        met = self._met()
        is_enough = len(met) == len(self.streaks) if self.probe.needs_all else bool(met)
        if self.has_triggered or not is_enough:
            self.confirm_at = None
            return False
        if now is not None and self._is_by_log_line():
            self.confirm_at = now + OUTLIVES_S if self.confirm_at is None else self.confirm_at
            if now < self.confirm_at:
                return False
        self._trigger()
        return True

    def _met(self) -> list[Streak]:
        return [streak for streak in self.streaks.values() if self._is_met(streak)]

    def _is_by_log_line(self) -> bool:
        """Return whether it is a line of the process's own log that makes it ready."""
        if self.probe.kind != "readiness":
            return False
        checks = zip(self.streaks.values(), self.probe.checks, strict=True)
        own = [
            self._is_met(streak)
            for streak, check in checks
            if isinstance(check, LogCheck) and check.task is None
        ]
        others = len(self._met()) - sum(own)
        return any(own) and (self.probe.needs_all or not others)

    def _trigger(self) -> None:
        met = self._met()
        self.has_triggered, self.confirm_at = True, None
        self.detail = "; ".join(streak.detail for streak in met)[:DETAIL_CHARACTERS]
        for streak in self.streaks.values():
            streak.next_look = None

    def fact(self, rank: RankId) -> ProbeTriggered:
        """Return the fact that it has triggered."""
        kind, part = self.probe.kind, self.probe.part
        return ProbeTriggered(attempt=rank.attempt, rank=rank.rank, kind=kind, part=part, detail=self.detail)


class ProbeState(Struct):
    """The probes of one kind of one rank: ready when each part has been true once, failed when any is."""

    probe: Probe
    parts: list[PartState]
    has_triggered: bool = False
    detail: str = ""
    """What was seen, once it has triggered."""
    said: str | None = None
    """The missing conditions, as last reported."""
    say_at: float = 0.0
    is_news_due: bool = False

    @classmethod
    def begin(cls, probe: Probe, now: float) -> "ProbeState":
        """Return the state of the probes of a kind whose rank starts now."""
        parts: list[PartState] = []
        first = 0
        for one in probe.parts:
            parts.append(PartState.begin(one, first, now))
            first += len(one.checks)
        return cls(probe, parts)

    @property
    def streaks(self) -> dict[ProbeKey, Streak]:
        """The results of all checks."""
        return {key: streak for part in self.parts for key, streak in part.streaks.items()}

    @property
    def next_check(self) -> float | None:
        """When `wake` is due."""
        times = [part.next_check for part in self.parts if not part.has_triggered]
        return min((time for time in times if time is not None), default=None)

    def observe(self, key: ProbeKey, is_true: bool, detail: str, now: float, is_poll: bool = False) -> bool:
        """Take a change of a check, or the result of a poll; return True when the probes trigger by it.

        A key that they do not have is ignored: it comes from the wire.
        """
        for part in self._open():
            part.observe(key, is_true, detail, now, is_poll)
        return self._has_just_triggered()

    def wake(self, now: float) -> bool:
        """Count the checks that are due; return True when that triggers one of the probes."""
        triggered = [part for part in self._open() if part.wake(now)]
        self._has_just_triggered()
        return bool(triggered)

    def process_completed(self) -> bool:
        """Take that the process has done all that it should; return True when one of the probes triggers by that."""
        triggered = [part for part in self._open() if part.process_completed()]
        self._has_just_triggered()
        return bool(triggered)

    def look_last(self, key: ProbeKey, is_true: bool, detail: str) -> bool:
        """Take the result of a check's last look; return True when the probes trigger by it."""
        for part in self._open():
            if key in part.streaks:
                part.look_last(key, is_true, detail)
        return self._has_just_triggered()

    def take_news(self) -> list[PartState]:
        """Return the parts that have triggered since the last call."""
        news = [part for part in self.triggered_parts() if not part.is_reported]
        for part in news:
            part.is_reported = True
        return news

    def triggered_parts(self) -> list[PartState]:
        """Return the parts that have triggered."""
        return [part for part in self.parts if part.has_triggered]

    @property
    def longest_check_s(self) -> float:
        """The longest limit of a check."""
        return max(part.timeout_s for part in self.probe.parts)

    def open_keys(self) -> list[ProbeKey]:
        """Return the checks of the parts that have not been true yet."""
        return [key for part in self._open() for key in part.streaks]

    def missing(self) -> str:
        """Return what they wait for."""
        texts = [part.missing() for part in self._open()]
        if len(self.parts) == 1:
            return "".join(texts)
        done = len(self.parts) - len(texts)
        return f"{done} of {len(self.parts)} probes: {', '.join(texts)}"[:DETAIL_CHARACTERS]

    def _open(self) -> list[PartState]:
        return [part for part in self.parts if not part.has_triggered]

    def _has_just_triggered(self) -> bool:
        met = self.triggered_parts()
        is_enough = len(met) == len(self.parts) if self.probe.kind == "readiness" else bool(met)
        if self.has_triggered or not is_enough:
            return False
        self.has_triggered = True
        self.detail = "; ".join(part.detail for part in met)[:DETAIL_CHARACTERS]
        return True


class ProbeNews:
    """Reports that are due, of all probes of the node.

    `find` returns the state of a probe that is still awaited.
    """

    def __init__(self, find: Callable[[RankId, ProbeKind], ProbeState | None]) -> None:
        self._find = find
        self._due: list[tuple[float, RankId, ProbeKind]] = []
        """A heap; entries of probes that are no longer awaited are ignored."""

    def began(self, rank: RankId, state: ProbeState, now: float) -> None:
        """Schedule the first report of a probe."""
        state.say_at = now + REPORT_EVERY_S
        self.changed(rank, state, now)

    def changed(self, rank: RankId, state: ProbeState, now: float) -> None:
        """Schedule a report if the probe waits for something other than last reported."""
        if state.probe.kind == "readiness" and not state.is_news_due and state.missing() != state.said:
            state.is_news_due = True
            heappush(self._due, (max(now, state.say_at), rank, state.probe.kind))

    def next_wakeup(self) -> float | None:
        """Return when `take_due` is due, or None."""
        while self._due and self._find(*self._due[0][1:]) is None:
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def take_due(self, now: float) -> list[ProbeWaiting]:
        """Return the reports that are due."""
        facts = []
        while self._due and self._due[0][0] <= now:
            _, rank, kind = heappop(self._due)
            state = self._find(rank, kind)
            if state is None:
                continue
            state.is_news_due = False
            missing = state.missing()
            if missing != state.said:
                state.said, state.say_at = missing, now + REPORT_EVERY_S
                facts.append(ProbeWaiting(attempt=rank.attempt, kind=state.probe.kind, detail=missing))
        return facts


# ---------------------------------------------------------------------- after the readiness probe


LISTENER_LOOKS_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
LISTENER_LATER_S = 60.0


class ListenerLooks(Struct):
    """When to look whether a ready rank listens on a port: whether it may leave with status 0 depends on it.

    Some servers print their line just before they listen, hence the repetitions. Its sockets are gone with the rank,
    so that it must be known before its exit.
    """

    due: float | None = None
    is_seen: bool = False
    _number: int = 0

    def begin(self, probes: Sequence[Probe], now: float) -> None:
        """Begin to look, unless a check of the probes is about a port already."""
        checks = (check for probe in probes for check in probe.all_checks)
        if not any(isinstance(check, TcpCheck | HttpCheck) for check in checks):
            self.due = now

    def take_due(self, now: float) -> bool:
        """Return whether to look now, and set the next time."""
        if self.due is None or self.due > now:
            return False
        self._number += 1
        more = LISTENER_LOOKS_S[self._number :]
        self.due = now + (more[0] if more else LISTENER_LATER_S)
        return True

    def seen(self) -> None:
        """Take in that the rank listens; nothing is left to look for."""
        self.is_seen, self.due = True, None
