"""The order in which a run's live tasks are stopped: waves, dependants before their dependencies."""

from collections.abc import Callable

from sflow_ctl.core.model.task import Task


class StopOrder:
    """The waves of one stop. Empty until `begin`. A wave is over when none of its tasks is live."""

    def __init__(self) -> None:
        self._waves: list[list[int]] = []
        self._open: set[int] = set()

    def begin(self, tasks: list[Task], chosen: Callable[[Task], bool]) -> None:
        """Put the chosen ones of the live tasks into waves."""
        self._waves = stop_levels(tasks, chosen)

    @property
    def is_over(self) -> bool:
        """Return whether no task is left to stop."""
        return not self._waves and not self._open

    def next_wave(self, tasks: list[Task]) -> list[int]:
        """Return the tasks to stop now; empty while a wave is open, and when all is over."""
        while self._waves and not self._open:
            self._open.update(index for index in self._waves.pop(0) if tasks[index].is_live)
            if self._open:
                return sorted(self._open)
        return []

    def force(self, tasks: list[Task]) -> list[int]:
        """Return all remaining tasks of all waves."""
        for wave in self._waves:
            self._open.update(index for index in wave if tasks[index].is_live)
        self._waves = []
        return sorted(self._open)

    def gone(self, index: int) -> None:
        """Note that a task is no longer live."""
        self._open.discard(index)


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
