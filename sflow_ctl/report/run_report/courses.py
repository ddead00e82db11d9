"""The attempts of each task with their times, folded from the changes of state in the journal. Pure.

Times are wall-clock nanoseconds of the controllers. `building.py` turns them into seconds after the run's beginning.
"""

from msgspec import Struct, field

from protocol.text.signal_names import signal_name
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState, Transition

S = TaskState


class AttemptCourse(Struct):
    """One attempt, as far as it has come."""

    number: int
    queued: int | None = None
    starting: int | None = None
    running: int | None = None
    ready: int | None = None
    stopping: int | None = None
    ended: int | None = None
    end: TaskState | None = None
    word: str = ""
    text: str = ""
    exit: str = ""
    node: int | None = None
    gpus: tuple[int, ...] = ()

    @property
    def begun(self) -> int | None:
        """Return when it was given its place."""
        return self.starting if self.starting is not None else self.running


class TaskCourse(Struct):
    """One concrete task."""

    attempts: list[AttemptCourse] = field(default_factory=list)
    queued: int | None = None
    """When the next attempt could have started."""

    def end_of(self, until: str) -> int | None:
        """Return when the task had come as far as a dependency on it says; None if it had not."""
        if not self.attempts:
            return None
        last = self.attempts[-1]
        match until:
            case "ready":
                return last.ready
            case "started":
                return self.attempts[0].running
            case _:
                return last.ended


class Courses(Struct):
    """All tasks of a run."""

    tasks: dict[str, TaskCourse] = field(default_factory=dict)
    last_ns: int = 0
    """The time of the last change."""

    def note(self, change: Transition, at: int) -> None:
        """Take in a change of state, made at `at`."""
        self.last_ns = max(self.last_ns, at)
        course = self.tasks.get(change.task)
        if course is None:
            course = self.tasks[change.task] = TaskCourse()
        new = change.new
        if new is S.QUEUED:
            course.queued = at
            return
        if new is S.STARTING:
            course.attempts.append(
                AttemptCourse(
                    change.attempt, queued=course.queued, starting=at, node=change.node, gpus=change.gpus
                )
            )
            course.queued = None
            return
        attempt = _attempt(course, change)
        if attempt is None:
            return
        if new is S.RUNNING:
            attempt.running = at
        elif new is S.READY:
            attempt.ready = at
        elif new is S.STOPPING:
            attempt.stopping = at
        elif new in TERMINAL or change.is_again:
            _end(attempt, change, at)

    def lose(self, at: int) -> None:
        """Take in that the controller died at `at`: what lived is lost."""
        self.last_ns = max(self.last_ns, at)
        for course in self.tasks.values():
            for attempt in course.attempts[-1:]:
                if attempt.end is None:
                    attempt.ended, attempt.end = at, S.LOST
                    attempt.word, attempt.text = "controller_died", "the controller died"


def _attempt(course: TaskCourse, change: Transition) -> AttemptCourse | None:
    """Return the attempt that a change is about; None for a task that ends without one."""
    last = course.attempts[-1] if course.attempts else None
    if last is not None and last.number == change.attempt:
        return last if last.end is None else None
    if last is not None and change.attempt < last.number:
        return None
    if change.old not in LIVE and change.new not in LIVE:
        return None
    attempt = AttemptCourse(change.attempt, node=change.node, gpus=change.gpus)
    course.attempts.append(attempt)
    return attempt


def _end(attempt: AttemptCourse, change: Transition, at: int) -> None:
    attempt.ended = at
    attempt.end = S.FAILED if change.is_again else change.new
    attempt.word = change.reason.after or change.reason.word
    attempt.text = change.reason.text
    if change.signal is not None:
        attempt.exit = signal_name(change.signal)
    elif change.exit_code is not None:
        attempt.exit = str(change.exit_code)
