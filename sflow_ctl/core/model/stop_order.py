"""The order in which a run's live tasks are stopped: waves, dependants before their dependencies."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct, field

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import Reason
from sflow_ctl.plan.model import PlannedTask


class StopOrder(Struct):
    """The waves of one stop. Empty until `begin`. A wave is over when none of its tasks is live."""

    waves: list[list[int]] = field(default_factory=list)
    """Those that have not begun."""
    open: set[int] = field(default_factory=set)
    """The live tasks of the present one."""

    def begin(self, tasks: list[Task], chosen: Callable[[Task], bool]) -> None:
        """Put the chosen ones of the live tasks into waves."""
        self.waves = stop_levels(tasks, chosen)

    @property
    def is_over(self) -> bool:
        """Return whether no task is left to stop."""
        return not self.waves and not self.open

    def next_wave(self, tasks: list[Task]) -> list[int]:
        """Return the tasks to stop now; empty while a wave is open, and when all is over."""
        while self.waves and not self.open:
            self.open.update(index for index in self.waves.pop(0) if tasks[index].is_live)
            if self.open:
                return sorted(self.open)
        return []

    def force(self, tasks: list[Task]) -> list[int]:
        """Return all remaining tasks of all waves."""
        for wave in self.waves:
            self.open.update(index for index in wave if tasks[index].is_live)
        self.waves = []
        return sorted(self.open)

    def gone(self, index: int) -> None:
        """Note that a task is no longer live."""
        self.open.discard(index)


class Freed(NamedTuple):
    """A task that has left its place, and has the plan of a revision since."""

    task: int
    before: PlannedTask


class Revising(Struct):
    """A revision of the plan while tasks are stopped for it. No checkpoint is written then: it has no plans."""

    order: StopOrder
    held: list[int] = field(default_factory=list)
    """Queued tasks that stand for others: what runs in their place is asked for when the revision is over."""
    freed: list[Freed] = field(default_factory=list)
    """Since the last event."""
    pending: set[int] = field(default_factory=set)
    """Tasks that still have a place, and another plan when they have left it."""
    why: dict[int, Reason] = field(default_factory=dict)
    """Why those start again, or are removed."""


def stop_levels(tasks: list[Task], chosen: Callable[[Task], bool]) -> list[list[int]]:
    """Return the chosen tasks in waves: all direct and indirect dependants of a task are in an earlier wave.

    Wave 0 first. Plan order is not topological, so the order is found here; a plan has no cycles.
    """
    level = [-1] * len(tasks)
    above: dict[int, int] = {}  # of a requirement, by identity: the first wave that may stop its members
    waves: dict[int, list[int]] = {}
    for root in range(len(tasks)):
        stack = [root]
        while stack:
            index = stack[-1]
            if level[index] >= 0:
                stack.pop()
                continue
            unknown = [one for one in tasks[index].requirements if id(one) not in above]
            missing = [target for one in unknown for target in one.dependants if level[target] < 0]
            if missing:
                stack.extend(missing)
                continue
            for one in unknown:
                above[id(one)] = max(level[target] + chosen(tasks[target]) for target in one.dependants)
            stack.pop()
            level[index] = max((above[id(one)] for one in tasks[index].requirements), default=0)
            if chosen(tasks[index]):
                waves.setdefault(level[index], []).append(index)
    return [sorted(waves[number]) for number in sorted(waves)]
