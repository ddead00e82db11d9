"""Which tasks a rerun of a run that has ended runs again, which keep their result, and which are left as they are. Pure.

Called by `runtime/run/resume.py`, after `core/actions/resume.py` has said what a resume would keep.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from msgspec import Struct

from protocol.messages.handover import CheckpointBase
from sflow_ctl.core.states import LIVE, TaskState
from sflow_ctl.plan.graph import dependency_names, topological_order
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask

_NOT_STARTED = frozenset({TaskState.WAITING, TaskState.QUEUED})
_PHRASES = {
    TaskState.WAITING: "had not started",
    TaskState.QUEUED: "had not started",
    TaskState.COMPLETED: "had completed",
    TaskState.FAILED: "had failed",
    TaskState.TIMEOUT: "had timed out",
    TaskState.CANCELLED: "was cancelled",
    TaskState.LOST: "was lost",
    TaskState.SKIPPED: "was skipped",
}


class RerunChoice(Struct, frozen=True):
    """The tasks that a person has chosen to run again."""

    tasks: tuple[str, ...] | None = None
    """Concrete names; None for what a resume would run."""
    is_only: bool = False
    """Run nothing else, not even what depends on them."""
    keeps_completed: bool = False
    """With no tasks: run what has no result, and nothing that has one, whatever has changed since."""
    checkpoint: CheckpointBase | None = None
    """What was said about the checkpoints of all tasks that run again; None for nothing."""


class Before(NamedTuple):
    """What the run has of its tasks before the rerun."""

    states: Mapping[str, TaskState]
    """Of the tasks that were in it."""
    completed: Collection[str]
    """Tasks with a result."""
    changed: Mapping[str, str]
    """Why a resume would run completed tasks again, as a sentence without its subject."""
    unreadable: Mapping[str, str]
    """What of the results of completed tasks is missing, in the same form."""


class Rerun(Struct, frozen=True):
    """What a rerun does with each task. Services that are in none of these run if something that runs needs them."""

    again: dict[str, str]
    """Tasks that run, with the reason: a sentence without its subject."""
    kept: frozenset[str]
    """Completed tasks, and services that nothing needs, which do not run."""
    left: dict[str, str]
    """Tasks without a result that do not run, with the reason."""
    refused: dict[str, str]
    """Chosen tasks that cannot run, with the reason: the rerun must not begin."""
    missed: frozenset[str]
    """Those of `left` without which the run is not complete."""
    notes: tuple[str, ...]
    """About kept results that are not those of the plan as it is now."""


def rerun(plan: Plan, before: Before, choice: RerunChoice) -> Rerun:
    """Decide what a rerun of chosen tasks does with all tasks of a plan."""
    if choice.keeps_completed:
        left = (one for one in plan.tasks if one.finally_when is None and not one.is_service)
        names = tuple(one.name for one in left if one.name not in before.completed)
        choice = RerunChoice(names, is_only=True, checkpoint=choice.checkpoint)
    return _Selecting(plan, before, choice).rerun()


class _Selecting:
    def __init__(self, plan: Plan, before: Before, choice: RerunChoice) -> None:
        self._before = before
        self._choice = choice
        self._members = plan.members()
        self._by_name = {task.name: task for task in plan.tasks}
        self._needs = {task.name: list(dependency_names(task, self._members)) for task in plan.tasks}
        self._again: dict[str, str] = {}
        self._left: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def rerun(self) -> Rerun:
        for name in topological_order(self._needs):
            self._judge(self._by_name[name])
        kept = {
            name
            for name, task in self._by_name.items()
            if name in self._before.completed
            and not task.is_service
            and name not in self._again
            and name not in self._left
        }
        resting = self._resting_services(kept | self._left.keys())
        notes = (*self._changed_notes(kept), *self._older_notes(kept))
        missed = frozenset(filter(self._is_missed, self._left.keys() - resting))
        kept |= resting - self._left.keys()
        return Rerun(self._again, frozenset(kept), self._left, self._refused, missed, notes)

    def _judge(self, task: PlannedTask) -> None:
        name, is_chosen = task.name, task.name in (self._choice.tasks or ())
        if task.finally_when is not None:
            self._again[name] = "it runs at the end of every run"
            return
        why = f"it is chosen; it {self._phrase(name)}" if is_chosen else self._follows(name)
        if why is None:
            if not task.is_service and name not in self._before.completed:
                self._left[name] = f"it {self._phrase(name)}, and is not chosen"
        elif (lacking := self._lacking(task)) is None:
            self._again[name] = why
        elif is_chosen:
            self._refused[name] = lacking
        else:
            self._left[name] = lacking

    def _follows(self, name: str) -> str | None:
        """Say which task that runs again another one builds on; None if it does on none, or nothing follows."""
        if self._choice.is_only:
            return None
        because = next((one for one in self._needs[name] if one in self._again), None)
        return None if because is None else f"it needs {because}, which runs again"

    def _lacking(self, task: PlannedTask) -> str | None:
        """Say which need of a task neither runs again nor has a result; None if all do."""
        for dependency in task.depends_on:
            for name in self._named(dependency):
                if (why := self._lacks(name, dependency)) is not None:
                    return why
        return None

    def _named(self, dependency: Dependency) -> Iterator[str]:
        if not dependency.is_group:
            yield dependency.task
            return
        yield from (member.name for member in self._members[dependency.task])

    def _lacks(self, name: str, dependency: Dependency) -> str | None:
        before, task = self._before, self._by_name[name]
        if name in self._again:
            return None
        if task.is_service:
            return self._lacking(task)  # it starts with its user
        if name in before.completed and dependency.until != "failed":
            return f"it needs {name}: {before.unreadable[name]}" if name in before.unreadable else None
        if dependency.until == "finished" and name in before.states:
            return None
        return f"it needs {name}, which {self._phrase(name)}, and does not run again"

    def _phrase(self, name: str) -> str:
        state = self._before.states.get(name)
        if state is None:
            return "is new"
        return "was running when its controller ended" if state in LIVE else _PHRASES[state]

    def _resting_services(self, done: Set[str]) -> set[str]:
        """Return the services that nothing needs: all of their users rest, and they are not chosen."""
        users: dict[str, list[str]] = {name: [] for name in self._by_name}
        for name, others in self._needs.items():
            for other in others:
                users[other].append(name)
        resting: set[str] = set()
        for name in reversed(topological_order(self._needs)):
            is_idle = all(user in done or user in resting for user in users[name])
            if self._by_name[name].is_service and name not in self._again and is_idle:
                resting.add(name)
        return resting

    def _is_missed(self, name: str) -> bool:
        """Return whether the run lacks a task that is left: it may still run, and its failure would count."""
        if self._by_name[name].on_failure == "continue":
            return False
        if self._before.states.get(name) is not TaskState.SKIPPED:
            return True
        return any(other in self._again or other in self._left for other in self._needs[name])

    def _changed_notes(self, kept: Set[str]) -> Iterator[str]:
        for name, why in self._before.changed.items():
            if name in kept and not why.startswith("it needs "):
                yield f"{name} is kept, although {why}: choose it as well to run it again"

    def _older_notes(self, kept: Set[str]) -> Iterator[str]:
        for name in self._by_name:
            old = next((one for one in self._needs[name] if name in kept and one in self._again), None)
            if old is not None:
                yield f"{name} is kept, although {old}, which it needs, runs again"


def ended_and_live(
    names: Sequence[str], states: Mapping[str, TaskState], plan: Plan
) -> tuple[list[str], list[str]]:
    """Part tasks of a live run into those that have ended, and may start again, and those that have not.

    Those that have ended come after what they depend on.
    """
    members = plan.members()
    order = topological_order({one.name: list(dependency_names(one, members)) for one in plan.tasks})
    place = {name: index for index, name in enumerate(order)}
    live = [name for name in names if states[name] in LIVE or states[name] in _NOT_STARTED]
    ended = sorted(set(names) - set(live), key=lambda name: place[name])
    return ended, live


def with_followers(names: Sequence[str], plan: Plan) -> list[str]:
    """Return tasks with all that depend on them, directly or not, in the order of their dependencies."""
    members = plan.members()
    needs = {one.name: list(dependency_names(one, members)) for one in plan.tasks}
    found = set(names)
    at_end = {one.name for one in plan.tasks if one.finally_when is not None}
    for name in topological_order(needs):
        if name not in at_end and any(other in found for other in needs[name]):
            found.add(name)
    return [name for name in topological_order(needs) if name in found]
