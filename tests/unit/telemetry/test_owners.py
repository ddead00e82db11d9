"""Whose a process is, from what /proc says of it; counted looks, not time."""

from collections import Counter

from protocol.ids import AttemptId, RankId
from sflow_agent.telemetry.looks import Look
from sflow_agent.telemetry.owners import Owners

AGENT = 10
A, B = RankId(AttemptId("a", 1), 0), RankId(AttemptId("b", 1), 3)


class Machine:
    """Processes: pid to (parent, session); what their environments name, and marks of steps."""

    def __init__(self, **_: object) -> None:
        self.processes: dict[int, tuple[int, int]] = {1: (0, 1), AGENT: (1, AGENT)}
        self.markers: dict[int, str] = {}
        self.marks: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.looks: Counter[int] = Counter()
        self.owners = Owners(AGENT, self.look, self.markers.get, self.marks.get)

    def look(self, pid: int) -> Look | None:
        self.looks[pid] += 1
        if pid not in self.processes:
            return None
        parent, session = self.processes[pid]
        return Look(parent, session, self.started.get(pid, 0), 0, 1, 0)

    def update(self, mains: dict[int, RankId], steps: dict[int, RankId] | None = None) -> dict[int, RankId]:
        self.owners.update(list(self.processes), mains, steps or {})
        return self.owners.owned


def test_children_and_their_children_belong_to_the_rank() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 40: (50, 30), 50: (30, 30), 60: (AGENT, 60), 70: (1, 70)}
    assert machine.update({30: A, 60: B}) == {30: A, 40: A, 50: A, 60: B}


def test_a_foreign_process_is_looked_at_once() -> None:
    machine = Machine()
    machine.processes[70] = (1, 70)
    for _ in range(3):
        machine.update({})
    assert machine.looks[70] == 1


def test_nothing_is_looked_at_while_nothing_was_started() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 70: (1, 70)}
    machine.owners.update(None, {30: A}, {})
    assert machine.owners.owned == {30: A}
    assert not machine.looks


def test_an_orphan_is_known_by_its_session_or_its_environment() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 40: (AGENT, 30), 50: (AGENT, 50), 51: (AGENT, 51)}
    machine.markers |= {50: str(A), 51: "another#1"}
    assert machine.update({30: A}) == {30: A, 40: A, 50: A}


def test_a_daemon_that_outlives_its_rank_still_belongs_to_it() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 40: (30, 40)}
    machine.update({30: A})
    machine.owners.gone(30)
    del machine.processes[30]
    machine.processes |= {40: (AGENT, 40), 41: (40, 41)}
    assert machine.update({}) == {40: A, 41: A}


def test_a_pid_that_was_given_to_another_process_is_forgotten() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 40: (30, 30)}
    machine.update({30: A})
    seen = machine.look(40)
    assert seen is not None
    assert machine.owners.is_same(40, seen)
    assert not machine.owners.is_same(40, seen._replace(start_ticks=5))
    assert 40 not in machine.owners.owned


def test_a_pid_that_was_foreign_may_become_a_rank() -> None:
    machine = Machine()
    machine.processes[30] = (1, 30)
    machine.update({})
    assert machine.update({30: A}) == {30: A}


def test_processes_of_a_job_step_are_known_by_their_mark_also_when_it_comes_late() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 80: (1, 80), 81: (80, 81), 90: (1, 90)}
    machine.marks[81] = 77
    assert machine.update({30: A}, {77: A}) == {30: A, 81: A}
    machine.marks[80] = 77
    assert machine.update({30: A}, {77: A}) == {30: A, 80: A, 81: A}
    for _ in range(5):
        machine.update({30: A}, {77: A})
    assert machine.looks[90] == 4  # once, and three times in case that it marks itself


def test_a_process_that_ends_meanwhile_is_left_out() -> None:
    machine = Machine()
    machine.owners.update([1, AGENT, 99], {}, {})
    assert machine.owners.owned == {}


def test_what_is_below_a_rank_that_is_too_young_is_not_foreign() -> None:
    machine = Machine()
    machine.processes |= {30: (AGENT, 30), 40: (30, 30), 50: (40, 50)}
    assert machine.update({}) == {}
    assert machine.update({30: A}) == {30: A, 40: A, 50: A}
