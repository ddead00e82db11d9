"""What `sflow_summary.log` needs of the changes of a run: the events of its timeline, counts, and tasks that failed. Pure.

Its size is limited, however many tasks a run has. Fed by the controller with every change, and by a resume with earlier ones.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from sflow_ctl.core.states import TERMINAL, TaskState, Transition
from sflow_ctl.report.words import gpus_text

MAX_FIRST, MAX_LAST = 1000, 1000
"""Events that are kept from the beginning and from the end."""
_FAILED = frozenset({TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST})
_CANCELLED = frozenset({TaskState.CANCELLED, TaskState.SKIPPED})
_WORDS = {
    state: "FAILED" if state in _FAILED else "CANCELLED" if state in _CANCELLED else state.value.upper()
    for state in TaskState
}


class TimelineEvent(NamedTuple):
    """One line of the timeline."""

    at_ns: int
    """Wall time in ns since 1970."""
    task: str
    word: str
    text: str


def state_word(state: TaskState) -> str:
    """Return the word that sflow has for a state: it knows three ends."""
    return _WORDS[state]


class SavedTimeline(Struct, frozen=True):
    """The events of a timeline, without the states of tasks."""

    first: list[TimelineEvent]
    last: list[TimelineEvent]
    count: int
    failed: list[str]
    cancelled: list[str]
    counts: dict[str, int]
    """Tasks by the word for their state."""


class Timeline:
    """The events of a run, and the present states of its tasks."""

    def __init__(self, states: Mapping[str, TaskState]) -> None:
        """`states` are those of all tasks when the controller begins."""
        self.first: list[TimelineEvent] = []
        self.last: deque[TimelineEvent] = deque(maxlen=MAX_LAST)
        self.count = 0
        """Of all events."""
        self.continues = False
        """Its states are those that tasks have now, though the controller is another one."""
        self._words: dict[str, str] = {}
        """By task, the word for its state."""
        self._counts: Counter[str] = Counter()
        self._word_before: Callable[[str], str | None] = _unknown
        self.begin(states)
        self.failed: dict[str, None] = {}
        """Tasks that failed, in the order of their ends."""
        self.cancelled: dict[str, None] = {}

    def note(self, transition: Transition, at_ns: int) -> None:
        """Take in a change of state."""
        task, new = transition.task, transition.new
        word = _WORDS[new]
        before = self._words.get(task) or self._word_before(task)
        self._counts[before or word] -= 1
        self._words[task] = word
        self._counts[word] += 1
        if self.failed or self.cancelled:
            self.failed.pop(task, None)
            self.cancelled.pop(task, None)
        if new in _FAILED:
            self.failed[task] = None
        elif new in _CANCELLED:
            self.cancelled[task] = None
        event = _event(transition, at_ns)
        if event is not None:
            self.count += 1
            if len(self.first) < MAX_FIRST:
                self.first.append(event)
            else:
                self.last.append(event)

    def begin(self, states: Mapping[str, TaskState]) -> None:
        """Take the states of all tasks when another controller begins; the events stay."""
        self._words = {task: state_word(state) for task, state in states.items()}
        self._counts = Counter(self._words.values())
        self._word_before = _unknown

    def join(self, tasks: Iterable[str]) -> None:
        """Take in tasks that wait from now on."""
        for task in tasks:
            if task not in self._words:
                word = self._words[task] = state_word(TaskState.WAITING)
                self._counts[word] += 1

    def saved(self) -> SavedTimeline:
        """Return the events, for another controller."""
        return SavedTimeline(
            self.first,
            list(self.last),
            self.count,
            list(self.failed),
            list(self.cancelled),
            {word: count for word, count in self._counts.items() if count},
        )

    @classmethod
    def restored(cls, saved: SavedTimeline, states: Mapping[str, TaskState]) -> "Timeline":
        """Return the timeline of an earlier controller, with the states that tasks had then."""
        timeline = cls(states)
        timeline.first, timeline.count = list(saved.first), saved.count
        timeline.last.extend(saved.last)
        timeline.failed, timeline.cancelled = dict.fromkeys(saved.failed), dict.fromkeys(saved.cancelled)
        return timeline

    @classmethod
    def continued(cls, saved: SavedTimeline, state_then: Callable[[str], TaskState | None]) -> "Timeline":
        """Return the timeline of a controller that another one takes over from, with the counts that it had.

        `state_then` returns the state that a task had then. Nothing is to `begin` anew: the states are those.
        """
        timeline = cls.restored(saved, {})
        timeline._counts = Counter(saved.counts)

        def word_before(task: str) -> str | None:
            state = state_then(task)
            return None if state is None else state_word(state)

        timeline._word_before = word_before
        timeline.continues = True
        return timeline

    @property
    def left_out(self) -> int:
        """Return how many events are between the first and the last ones."""
        return self.count - len(self.first) - len(self.last)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by the word for their state, without those that no task is in."""
        return {word: count for word, count in sorted(self._counts.items()) if count > 0}


def _unknown(_task: str) -> None:
    return None


def _event(transition: Transition, at_ns: int) -> TimelineEvent | None:
    new, reason = transition.new, transition.reason
    if new is TaskState.QUEUED:
        return TimelineEvent(at_ns, transition.task, "UNBLOCKED", "what it waited for is there")
    if new is TaskState.STARTING:
        gpus = f" gpus={gpus_text(transition.gpus)}" if transition.gpus else ""
        return TimelineEvent(at_ns, transition.task, "SUBMITTED", f"attempt={transition.attempt}{gpus}")
    if new is TaskState.READY:
        return TimelineEvent(at_ns, transition.task, "READY", reason.text)
    if transition.is_again:
        return TimelineEvent(at_ns, transition.task, "RETRY", reason.text)
    if new in TERMINAL:
        why = reason.text if new is TaskState.COMPLETED else f"{reason.word}: {reason.text}"
        return TimelineEvent(at_ns, transition.task, state_word(new), why)
    return None
