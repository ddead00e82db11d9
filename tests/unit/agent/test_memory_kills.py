"""The ranks that out-of-memory kills are attributed to, and the effect on the core."""

from protocol.ids import RankId
from protocol.messages.facts import Notice, RankExited
from sflow_agent.core.commands import AgentCommand, DiagnoseExit, Report
from sflow_agent.core.events import ProcessesReaped, ProcessExited
from sflow_agent.core.memory_kills import MemoryKills
from tests.unit.agent.driver import A, B, C, D, a_spec, running


def exited(rank: RankId, exit_code: int | None, signal: int | None = None) -> ProcessExited:
    return ProcessExited(rank, exit_code, signal, 10, False)


def test_f43_a_kill_explains_one_end() -> None:
    kills = MemoryKills()
    for rank in (A, B, C):
        kills.started(rank, 3)
    kills.started(D, 4)
    assert kills.attribute([exited(A, None, 9)], 4) == {A: 1}
    assert kills.attribute([exited(B, 1)], 4) == {}
    assert kills.attribute([exited(D, 137)], 6) == {D: 2}
    assert kills.attribute([exited(C, 1)], 6) == {C: 1}
    assert kills.attribute([exited(C, None, 9)], 6) == {}


def test_a_killed_rank_takes_its_kill_before_others_of_the_same_pass() -> None:
    kills = MemoryKills()
    kills.started(A, 0)
    kills.started(B, 0)
    assert kills.attribute([exited(A, 0), exited(B, None, 9)], 1) == {B: 1}


def test_the_diagnosis_of_a_bad_exit_gets_the_kills_of_its_rank() -> None:
    reaped = ProcessesReaped((exited(A, 1), exited(B, None, 9)), memory_kills=3)
    commands: list[AgentCommand] = running(a_spec(A), a_spec(B), memory_kills=2).handle(reaped, 1.0)
    assert commands == [DiagnoseExit(A, 1, None, 0), DiagnoseExit(B, None, 9, 1)]


def test_a_good_exit_warns_of_kills_that_nothing_explains() -> None:
    warning, report, _ = running(a_spec(A), memory_kills=2).handle(
        ProcessesReaped((exited(A, 0),), memory_kills=4), 1.0
    )
    assert isinstance(warning, Report)
    assert isinstance(warning.message, Notice)
    assert "the kernel killed 2 process(es)" in warning.message.text
    assert isinstance(report, Report)
    assert isinstance(report.message, RankExited)
