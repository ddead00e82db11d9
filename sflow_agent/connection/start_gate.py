"""Holds orders to start a rank until the directories and programs that its start needs have answered.

A process is made in its working directory, by a call that keeps the interpreter: on a file system that does not answer it
would hold up the whole agent. So a thread looks at these paths first, and only this rank waits. Between the link and the core,
which knows nothing of a rank that waits here; `agent` makes it.

Of many ranks it passes on some in each turn of the loop: their starts are reported, and ends seen, while the others are
still to be started.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from protocol.ids import RankId
from protocol.messages.facts import FromAgent
from protocol.messages.orders import Leave, Refused, Spawn, Stop, Welcome
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.events import AgentEvent, EndRequested, Ordered
from sflow_agent.core.exit_cause import withdrawn
from sflow_agent.worker import Lane, Workers

ANSWERS_FOR_S = 2.0
"""A path that has answered is not asked again for so long: thousands of tasks may have one directory."""
SAID_AFTER_S = 5.0
MAX_ASKED = 64
"""Paths that are asked about at the same time; each may take for ever."""
STARTED_AT_ONCE = 64
"""Ranks in one turn, which takes 20 to 100 ms then. Slices of eight cost 4 % more processor time, and tasks ended no sooner."""
_SYSTEM = ("/bin/", "/usr/", "/sbin/")
"""Where nothing runs any more if it does not answer."""


class _Held(Struct):
    spec: RankSpec
    missing: set[str]
    """Paths that have not answered."""
    said_at: float | None


class StartGate:
    """A source of the loop in the link's place: its events, with the orders to start when they can be carried out."""

    def __init__(
        self,
        poll_link: Callable[[float], Sequence[AgentEvent]],
        link_wakeup: Callable[[], float | None],
        workers: Workers,
        report: Callable[[FromAgent], None],
        warn: Callable[[str], None],
    ) -> None:
        self._poll_link, self._link_wakeup = poll_link, link_wakeup
        self._workers, self._report, self._warn = workers, report, warn
        self._home = os.getcwd()  # noqa: PTH109
        self._lane = Lane("paths", threads=MAX_ASKED, queued=1_000_000)
        self._held: dict[RankId, _Held] = {}
        self._answered: dict[str, float] = {}
        self._later: deque[AgentEvent] = deque()
        """What may pass, in order, in the next turns."""

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        if self._later:
            return 0.0
        if not self._held:
            return self._link_wakeup()
        times = (self._link_wakeup(), *(one.said_at for one in self._held.values()))
        return min((at for at in times if at is not None), default=None)

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Return the link's events; orders to start come once their paths have answered."""
        events = self._poll_link(now)
        if not (self._held or self._later) and not self._are_to_wait(events, now):
            return events
        passed: list[AgentEvent] = []
        for event in events:
            passed += self._pass(event, now)
        ready = tuple(one.spec for one in self._held.values() if not one.missing)
        for spec in ready:
            del self._held[spec.rank]
        self._say_who_waits(now)
        self._later += [*passed, Ordered(Spawn(ranks=ready))] if ready else passed
        return self._some(has_end=any(isinstance(event, EndRequested) for event in passed))

    def _are_to_wait(self, events: Sequence[AgentEvent], now: float) -> bool:
        """Return whether a start among these events has to wait, or another event overtakes some; mostly none does."""
        starts = 0
        for event in events:
            if isinstance(event, EndRequested):
                return True
            if isinstance(event, Ordered) and isinstance(event.message, Spawn):
                ranks = event.message.ranks
                starts += len(ranks)
                if starts > STARTED_AT_ONCE or any(self._missing(spec, now) for spec in ranks):
                    return True
        return False

    def _some(self, *, has_end: bool) -> list[AgentEvent]:
        """Return the next events, up to a number of starts; all of them at the agent's end, of which nothing is started."""
        some: list[AgentEvent] = []
        left = STARTED_AT_ONCE
        if has_end:
            some = sorted(self._later, key=lambda event: not isinstance(event, EndRequested))
            self._later.clear()
        while self._later and left > 0:
            event = self._later.popleft()
            if isinstance(event, Ordered) and isinstance(event.message, Spawn):
                order = event.message
                now, later = order.ranks[:left], order.ranks[left:]
                left -= len(now)
                if later:
                    self._later.appendleft(Ordered(replace(order, ranks=later)))
                event = Ordered(replace(order, ranks=now))
            some.append(event)
        return some

    def _pass(self, event: AgentEvent, now: float) -> list[AgentEvent]:
        """Return what is left of an event for the core."""
        match event:
            case Ordered(message=Spawn(ranks=ranks, is_withdrawn=True)):
                self._drop([spec.rank for spec in ranks if spec.rank in self._held])
            case Ordered(message=Spawn(ranks=ranks)):
                free = tuple(spec for spec in ranks if not self._holds(spec, now))
                return [Ordered(Spawn(ranks=free))] if free else []
            case Ordered(message=Stop(attempt=attempt)):
                self._drop([rank for rank in self._held if rank.attempt == attempt])
            case Ordered(message=Welcome(kill=kill)):
                for rank in kill:
                    self._held.pop(rank, None)
            case EndRequested() | Ordered(message=Leave() | Refused()):
                self._drop(list(self._held))
            case _:
                pass
        return [event]

    def _holds(self, spec: RankSpec, now: float) -> bool:
        if spec.rank in self._held:
            return True  # ordered again, in another session
        missing = self._missing(spec, now)
        if not missing:
            return False
        held = self._held[spec.rank] = _Held(spec, missing, now + SAID_AFTER_S)
        for path in missing:
            self._workers.run(("path", path), partial(_ask, path), self._note_answer(held, path), self._lane)
        return True

    def _note_answer(self, held: _Held, path: str) -> Callable[[object], None]:
        def note(_answer: object) -> None:
            held.missing.discard(path)
            self._answered[path] = time.monotonic() + ANSWERS_FOR_S

        return note

    def _missing(self, spec: RankSpec, now: float) -> set[str]:
        """Return the paths that a start needs, may be on a file system of the user's, and have not answered lately."""
        paths = [path for _, path in spec.required_paths]
        if spec.cwd is not None and spec.cwd != self._home:
            paths.append(spec.cwd)
        if spec.argv[0].startswith("/") and not spec.argv[0].startswith(_SYSTEM):
            paths.append(spec.argv[0])
        return {path for path in paths if self._answered.get(path, 0.0) < now} if paths else set()

    def _drop(self, ranks: Sequence[RankId]) -> None:
        """Report that ranks which wait are not started any more."""
        for rank in ranks:
            path = min(self._held.pop(rank).missing, default="")
            self._report(withdrawn(rank, f": {path} had not answered"))

    def _say_who_waits(self, now: float) -> None:
        for rank, held in self._held.items():
            if held.said_at is not None and held.said_at <= now:
                held.said_at = None
                path = min(held.missing)
                self._warn(f"{rank}: {path} has not answered for {SAID_AFTER_S:g} s: its start waits for it")


def _ask(path: str) -> None:
    os.stat(path)  # noqa: PTH116 - an error is an answer, which the start itself finds again
