"""Lines about changes of state, and the progress line."""

import pytest

from sflow_ctl.cli.terminal.state_lines import StateLines, clock
from sflow_ctl.core.states import Reason, TaskState, Transition

S = TaskState


def change(task: str, new: TaskState, word: str = "exit", text: str = "", attempt: int = 1) -> Transition:
    return Transition(
        task=task, attempt=attempt, old=S.QUEUED, new=new, reason=Reason(word, text), runtime_s=1.25
    )


def test_a_person_sees_starts_ends_readiness_and_retries_of_a_small_run() -> None:
    lines = StateLines(3, is_brief=False, is_unicode=False)
    assert lines.add(change("a", S.STARTING)) is None
    assert lines.add(change("a", S.RUNNING)) == "-- a started"
    assert lines.add(change("a", S.READY, "ready", "port 80 listening")) == "-- a ready: port 80 listening"
    assert lines.add(change("b", S.WAITING, "retry", "exit status 1; attempt 2 of 3 in 5 s")) == (
        "-- b retry: exit status 1; attempt 2 of 3 in 5 s"
    )
    assert lines.add(change("b", S.FAILED, text="exit status 1", attempt=2)) == "-- b#2 failed: exit status 1"
    assert lines.add(change("c", S.COMPLETED)) == "-- c completed in 1.2 s"


def test_a_brief_console_shows_only_failures_and_readiness() -> None:
    lines = StateLines(5_000, is_brief=False, is_unicode=False)
    assert lines.add(change("a", S.RUNNING)) is None
    assert lines.add(change("a", S.COMPLETED)) is None
    assert (
        lines.add(change("b", S.LOST, "node_lost", "node n1 was lost"))
        == "-- b lost (node_lost): node n1 was lost"
    )


def test_the_same_change_twice_counts_once() -> None:
    lines = StateLines(2, is_brief=False, is_unicode=False, now=lambda: 12.0)
    for _ in range(2):
        lines.add(change("a", S.RUNNING))
        lines.add(change("b", S.FAILED))
    assert lines.progress(80) == "0/2 done | 1 running | 1 failed | 00:00"


def test_the_progress_line_is_one_line() -> None:
    now = [0.0]
    lines = StateLines(40, is_brief=False, now=lambda: now[0])
    for number in range(12):
        lines.add(change(f"t{number}", S.RUNNING))
        lines.add(change(f"t{number}", S.COMPLETED))
    lines.begin_with("service", S.READY)
    lines.add(change("x", S.RUNNING))
    now[0] = 12.5
    assert lines.progress(80) == "12/40 done \u00b7 1 running \u00b7 1 ready \u00b7 00:12"
    assert len(lines.progress(20)) == 20
    assert lines.progress(20).endswith("...")


def test_a_narrow_terminal_shows_what_is_awaited_rather_than_counts() -> None:
    lines = StateLines(3, is_brief=False, is_unicode=False, now=lambda: 12.0)
    lines.add(change("a", S.RUNNING))
    lines.add(change("b", S.FAILED))
    wait = "waiting for model (00:07): port 18264 is not listening"
    assert lines.progress(100, wait).endswith(f"1 failed | 00:00 | {wait}")
    assert lines.progress(80, wait) == f"0/3 done | 1 failed | {wait}"
    assert lines.progress(50, wait) == f"0/3 done | 1 failed | {wait}"[:47] + "..."


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (61, "01:01"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
