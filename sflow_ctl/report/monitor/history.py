"""When and where the tasks of a run have run, and what was found of their windows. Pure.

Folded from transitions, as the controller records them; the reports of monitors are cut out of the readings with it.
"""

from msgspec import Struct, field

from protocol.messages.monitor import RankWindow
from sflow_ctl.core.states import TERMINAL, TaskState, Transition
from sflow_ctl.plan.model import Placement


class TaskEvent(Struct, frozen=True):
    """A line of the overview."""

    at_ms: int
    word: str
    task: str


class TaskTimes(Struct):
    """The attempts of one concrete task, together."""

    nodes: set[int] = field(default_factory=set)
    gpus: set[int] = field(default_factory=set)
    """Numbers on each of its nodes."""
    begin_ms: int | None = None
    attempt_ms: int | None = None
    """When its last attempt began."""
    attempt: int = 0
    end_ms: int | None = None


class RunHistory(Struct):
    """All tasks. Times are milliseconds of the controller's wall clock."""

    begin_ms: int
    tasks: dict[str, TaskTimes] = field(default_factory=dict)
    events: list[TaskEvent] = field(default_factory=list)
    windows: dict[str, dict[tuple[int, int], RankWindow]] = field(default_factory=dict)
    """By task, then by (attempt, rank): times are the nodes' clocks, corrected where they were off."""

    def note(self, transition: Transition, place: Placement | None, at_ms: int) -> None:
        """Take in a change of state; `place` is where the attempt runs."""
        if transition.new is TaskState.STARTING:
            self._started(transition, place, at_ms)
        elif transition.new in TERMINAL or transition.is_again:
            self._ended(transition, at_ms)
        elif transition.new is TaskState.READY:
            self.events.append(TaskEvent(at_ms, "ready", transition.task))

    def stopped(self, at_ms: int) -> None:
        """Take in that a controller has ended: what still ran has ended with it."""
        for task, times in self.tasks.items():
            if times.end_ms is None:
                times.end_ms = at_ms
                self.events.append(TaskEvent(at_ms, "lost", task))

    def found(self, window: RankWindow) -> None:
        """Take in what was found of a window."""
        rank = window.rank
        self.windows.setdefault(rank.attempt.task, {})[rank.attempt.number, rank.rank] = window

    def _started(self, transition: Transition, place: Placement | None, at_ms: int) -> None:
        times = self.tasks.setdefault(transition.task, TaskTimes())
        times.begin_ms = at_ms if times.begin_ms is None else times.begin_ms
        times.attempt_ms, times.attempt, times.end_ms = at_ms, transition.attempt, None
        if place is not None:
            times.nodes.update(place.nodes)
            times.gpus.update(place.gpus)
        elif transition.node is not None:
            times.nodes.add(transition.node)
            times.gpus.update(transition.gpus)
        self.events.append(TaskEvent(at_ms, "submit", transition.task))

    def _ended(self, transition: Transition, at_ms: int) -> None:
        times = self.tasks.get(transition.task)
        if times is None or times.end_ms is not None:
            return
        times.end_ms = at_ms
        word = "done" if transition.new is TaskState.COMPLETED else transition.new.value
        self.events.append(TaskEvent(at_ms, "retry" if transition.is_again else word, transition.task))
