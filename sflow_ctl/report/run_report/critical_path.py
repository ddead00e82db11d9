"""The critical path of a run: from its end back to its beginning, always to what had to be waited for last. Pure.

A task starts after the last of its dependencies has come far enough, after its attempt before, or after another task has given
the GPUs or the place free. Called by `building.py`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from msgspec import Struct

from sflow_ctl.core.states import TaskState as S
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.report.run_report.courses import AttemptCourse, Courses
from sflow_ctl.report.run_report.model import PathStep

TOLERANCE_NS = 5_000_000
"""Changes that are recorded so close to each other may be in either order."""
WAITED_NS = 20_000_000
"""A shorter time in the queue is the scheduler's own."""
MAX_STEPS = 400


class _At(Struct, frozen=True):
    task: str
    attempt: AttemptCourse
    until: str
    time: int


class CriticalPath:
    """The path of one run; times are those of its courses."""

    def __init__(self, plan: Plan, courses: Courses, began: int, now: int) -> None:
        """`now` is the end of the run, or of what is known of it."""
        self._courses = courses.tasks
        self._planned = {task.name: task for task in plan.tasks}
        self._members = plan.members()
        self._began, self._now = began, now
        self._latest: dict[tuple[str, str], list[tuple[int, str]]] = {}
        """By task of the file and how far: when its replicas had come there, in order."""
        self._ends: list[tuple[int, str, AttemptCourse]] | None = None

    def steps(self, cause: str | None) -> tuple[PathStep, ...]:
        """Return the path to the end of the run, or to the failure of the task `cause` that ended it."""
        at = self._last(cause)
        found: list[PathStep] = []
        seen: set[tuple[str, int]] = set()
        while at is not None and (at.task, at.attempt.number) not in seen and len(found) < MAX_STEPS:
            seen.add((at.task, at.attempt.number))
            after, before = self._before(at)
            found.append(self._step(at, after, self._began if before is None else before.time))
            at = before
        return tuple(reversed(found))

    def _step(self, at: _At, after: str, begin: int) -> PathStep:
        starting = at.attempt.begun or begin
        running = at.attempt.running or min(at.time, self._now)
        begin, starting, running = (min(one, at.time) for one in (begin, starting, running))
        return PathStep(
            task=at.task,
            attempt=at.attempt.number,
            after=after,
            until=at.until,
            begin_s=self._seconds(begin - self._began),
            queued_s=self._seconds(starting - begin),
            startup_s=self._seconds(running - max(starting, begin)),
            ran_s=self._seconds(at.time - running),
            end_s=self._seconds(at.time - self._began),
        )

    @staticmethod
    def _seconds(nanoseconds: int) -> float:
        return round(max(0, nanoseconds) / 1e9, 3)

    def _last(self, cause: str | None) -> _At | None:
        """Return where the path ends."""
        if cause is not None and (course := self._courses.get(cause)) is not None and course.attempts:
            last = course.attempts[-1]
            if last.ended is None or not self._went_on(last.ended):
                return _At(cause, last, "end", last.ended or self._now)
        live = [
            (attempt.begun or 0, name, attempt)
            for name, attempt in self._attempts()
            if attempt.end is None and not self._is_service(name)
        ]
        if live:
            _, name, attempt = min(live, key=lambda one: one[0])
            return _At(name, attempt, "now", self._now)
        ends = self._all_ends()
        own = [one for one in ends if not self._is_aside(one[1])] or ends
        if not own:
            return None
        time, name, attempt = own[-1]
        return _At(name, attempt, "end", time)

    def _went_on(self, after: int) -> bool:
        """Return whether other tasks began, or came to their own end, after a failure: it did not end the run."""
        return any(
            (attempt.begun or 0) > after
            or ((attempt.ended or 0) > after and attempt.end is S.COMPLETED and attempt.stopping is None)
            for name, attempt in self._attempts()
            if not self._is_finally(name)
        )

    def _before(self, at: _At) -> tuple[str, _At | None]:
        """Return what an attempt began after, and the attempt whose progress that was."""
        course = self._courses[at.task]
        position = course.attempts.index(at.attempt)
        starting = at.attempt.begun or at.time
        queued = at.attempt.queued or (self._began if not position else starting)
        if starting - queued > WAITED_NS and (free := self._place_given_free(at, queued, starting)):
            return "place", free
        if position:
            earlier = course.attempts[position - 1]
            if earlier.ended is not None:
                return "retry", _At(at.task, earlier, "end", earlier.ended)
        planned = self._planned.get(at.task)
        if planned is None:
            return "begin", None
        if planned.finally_when is not None:
            before = self._last_end(starting, at.task)
            return ("stop", before) if before is not None else ("begin", None)
        found = max(self._satisfied(planned, queued), key=lambda one: one.time, default=None)
        return ("dependency", found) if found is not None else ("begin", None)

    def _satisfied(self, planned: PlannedTask, queued: int) -> Iterator[_At]:
        """Yield of each dependency when it held, the last one of a group before `queued`."""
        for dependency in planned.depends_on:
            members = self._members.get(dependency.task, []) if dependency.is_group else []
            names = [one.name for one in members] if dependency.is_group else [dependency.task]
            if not names:
                continue
            until = self._until(dependency, names[0])
            key = (dependency.task, until)
            if key not in self._latest:
                self._latest[key] = self._times(names, until)
            for time, name in reversed(self._latest[key]):
                if time <= queued + TOLERANCE_NS:
                    attempts = self._courses[name].attempts
                    attempt = attempts[0] if until == "started" else attempts[-1]
                    yield _At(name, attempt, until, time)
                    break

    def _until(self, dependency: Dependency, name: str) -> str:
        if dependency.until in ("ready", "started"):
            return dependency.until
        planned = self._planned.get(name)
        is_service = dependency.until == "available" and planned is not None and planned.has_readiness
        return "ready" if is_service else "end"

    def _times(self, names: Sequence[str], until: str) -> list[tuple[int, str]]:
        found = [(course.end_of(until), name) for name in names if (course := self._courses.get(name))]
        return sorted((time, name) for time, name in found if time is not None)

    def _place_given_free(self, at: _At, queued: int, starting: int) -> _At | None:
        """Return the attempt that ended last while this one waited, where it runs: on its GPUs, if it has any."""
        wanted = set(at.attempt.gpus)
        for time, name, attempt in self._ends_before(starting):
            if time <= queued + TOLERANCE_NS:
                return None
            is_same = attempt.node == at.attempt.node and (not wanted or wanted & set(attempt.gpus))
            if (
                is_same
                and attempt is not at.attempt
                and attempt.begun is not None
                and attempt.begun < starting
            ):
                return _At(name, attempt, "end", time)
        return None

    def _last_end(self, before: int, but: str) -> _At | None:
        aside: _At | None = None
        for time, name, attempt in self._ends_before(before):
            if name == but or self._is_finally(name):
                continue
            if not self._is_aside(name):
                return _At(name, attempt, "end", time)
            aside = aside or _At(name, attempt, "end", time)
        return aside

    def _ends_before(self, time: int) -> Iterator[tuple[int, str, AttemptCourse]]:
        """Yield the ends before a time, the last one first."""
        ends = self._all_ends()
        for position in range(bisect_right(ends, time + TOLERANCE_NS, key=lambda one: one[0]) - 1, -1, -1):
            yield ends[position]

    def _all_ends(self) -> list[tuple[int, str, AttemptCourse]]:
        if self._ends is None:
            found = [(one.ended, name, one) for name, one in self._attempts() if one.ended is not None]
            self._ends = sorted(found, key=lambda one: (one[0], one[1]))
        return self._ends

    def _attempts(self) -> Iterator[tuple[str, AttemptCourse]]:
        for name, course in self._courses.items():
            for attempt in course.attempts:
                yield name, attempt

    def _is_service(self, name: str) -> bool:
        planned = self._planned.get(name)
        return planned is not None and planned.is_service

    def _is_finally(self, name: str) -> bool:
        planned = self._planned.get(name)
        return planned is not None and planned.finally_when is not None

    def _is_aside(self, name: str) -> bool:
        """Return True for a service that was stopped: the run did not wait for its end."""
        course = self._courses[name]
        return self._is_service(name) and course.attempts[-1].stopping is not None
