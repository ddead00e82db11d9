"""The console's lines about what a run does and waits for."""

import pytest

from sflow_ctl.cli.terminal.activity import Activity
from sflow_ctl.core.states import Reason, TaskState, Transition
from tests.unit.ctl_output.test_report import plan_of

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

S = TaskState


def change(task: str, new: TaskState, word: str = "exit") -> Transition:
    return Transition(task=task, attempt=1, old=S.QUEUED, new=new, reason=Reason(word), node=0)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def activity_of(*names: str, clock: Clock) -> Activity:
    import msgspec

    from protocol.messages.checks import LogCheck, LogPattern, Probe

    probe = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="x")),))
    tasks = [msgspec.structs.replace(task, probes=(probe,)) for task in plan_of(*names).tasks]
    return Activity(tasks, clock)


def test_public_20_reports_of_a_waiting_service_become_rarer() -> None:
    clock = Clock()
    activity = activity_of("web", clock=clock)
    activity.add(change("web", S.RUNNING))
    activity.waits_for("web", "port 9140 is not listening")
    said = []
    for second in range(1300):
        clock.now = float(second)
        said += [(second, line) for line in activity.lines(is_terminal=False)]
    assert [second for second, _ in said] == [30, 60, 120, 300, 600, 1200]
    assert said[1][1] == "waiting for web (01:00): port 9140 is not listening"
    assert activity.status() == "waiting for web (21:39): port 9140 is not listening"
    activity.add(change("web", S.READY))
    assert activity.status() == ""
    assert activity.next_line_at() is None


def test_public_20_a_service_that_listens_elsewhere_is_reported_soon() -> None:
    clock = Clock()
    activity = activity_of("web", clock=clock)
    activity.add(change("web", S.RUNNING))
    said = []
    for second in range(70):
        clock.now = float(second)
        if second == 8:
            activity.waits_for("web", "port 9140 is not listening; the task listens on 9141")
        said += [second for _ in activity.lines(is_terminal=False)]
    assert said == [8, 30, 60]


def test_ux_03_a_terminal_has_a_line_too_about_a_service_that_listens_elsewhere() -> None:
    clock = Clock()
    activity = activity_of("web", clock=clock)
    activity.add(change("web", S.RUNNING))
    activity.waits_for("web", "port 9140 is not listening; the task listens on 9141")
    said = []
    for second in range(70):
        clock.now = float(second)
        said += [(second, line) for line in activity.lines(is_terminal=True)]
    assert said == [(5, "waiting for web (00:05): port 9140 is not listening; the task listens on 9141")]


def test_a_stop_names_its_tasks_once_and_counts_down() -> None:
    clock = Clock()
    activity = activity_of("a", "b", clock=clock)
    for task in "ab":
        activity.add(change(task, S.STOPPING, "interrupted"))
    assert activity.lines(is_terminal=False) == []
    activity.add(change("a", S.CANCELLED, "interrupted"))
    clock.now = 1.0
    assert activity.lines(is_terminal=False) == [
        "stopping 2 tasks (Ctrl-C again kills at once): b, SIGKILL in 4 s"
    ]
    clock.now = 3.0
    assert activity.lines(is_terminal=False) == []
    assert activity.status() == "stopping b, SIGKILL in 2 s"
    activity.add(change("b", S.CANCELLED, "interrupted"))
    assert activity.status() == ""


def test_ux_02_a_stop_says_why_and_what_a_further_signal_does() -> None:
    for word, text, said in (
        ("interrupted", "stopped by SIGINT", " (Ctrl-C again kills at once)"),
        ("interrupted", "stopped by SIGTERM", " (stopped by SIGTERM; another signal kills at once)"),
        ("interrupted", "stopped by SIGHUP", " (stopped by SIGHUP; another signal kills at once)"),
        ("time_limit", "the workflow's time is over", " (the workflow's time is over)"),
        ("fail_fast", "task b failed: exit status 1", " (task b failed: exit status 1)"),
    ):
        clock = Clock()
        activity = activity_of("a", clock=clock)
        stop = Transition(
            task="a", attempt=1, old=S.RUNNING, new=S.STOPPING, reason=Reason(word, text), node=0
        )
        activity.add(stop)
        clock.now = 1.0
        assert activity.lines(is_terminal=True) == [f"stopping 1 task{said}: a, SIGKILL in 4 s"]


def test_a_stop_of_tasks_that_have_ended_proposes_no_further_signal() -> None:
    clock = Clock()
    activity = activity_of("a", clock=clock)
    activity.add(change("a", S.STOPPING, "interrupted"))
    activity.add(change("a", S.CANCELLED, "interrupted"))
    clock.now = 1.0
    assert activity.lines(is_terminal=True) == ["stopping 1 task: a"]


def test_ux_02_services_that_are_not_needed_any_more_stop_in_the_status_line() -> None:
    activity = activity_of("a", clock=Clock())
    activity.add(change("a", S.STOPPING, "run_complete"))
    assert activity.status() == "stopping a, SIGKILL in 5 s"
    assert activity.next_line_at() == 30
    assert activity.lines(is_terminal=False) == []


def test_ux_03_services_that_are_awaited_take_turns_in_the_status_line() -> None:
    clock = Clock()
    activity = activity_of("a", "b", clock=clock)
    for task, text in (("a", "127.0.0.1:18260: connection refused"), ("b", "port 18264 is not listening")):
        activity.add(change(task, S.RUNNING))
        activity.waits_for(task, text)
    said = set()
    for second in range(12):
        clock.now = float(second)
        said.add(activity.status().partition(" (")[0])
        assert activity.lines(is_terminal=True) == []
    assert said == {"waiting for a", "waiting for b"}


def test_only_a_change_after_which_a_line_may_be_due_earlier_wakes_the_writer() -> None:
    activity = activity_of("web", clock=Clock())
    assert not activity.add(change("other", S.STARTING))
    assert not activity.add(change("other", S.RUNNING))
    assert not activity.add(change("other", S.COMPLETED))
    assert activity.add(change("web", S.RUNNING))
    assert activity.add(change("web", S.STOPPING, "interrupted"))
    assert not activity.add(change("other", S.STOPPING, "interrupted"))  # gathered with the first one


def silences(activity: Activity, clock: Clock, until: int) -> list[int]:
    """Return the seconds at which a file gets the status line because nothing else was written."""
    said = []
    for second in range(int(clock.now), until):
        clock.now = float(second)
        said += [second for _ in range(1) if activity.ends_silence()]
    return said


def test_ux_03_a_file_gets_what_runs_after_a_silence_and_ever_more_rarely() -> None:
    clock = Clock()
    activity = Activity(plan_of("train", "eval").tasks, clock)
    activity.add(change("train", S.RUNNING))
    clock.now = 10.0
    activity.add(change("eval", S.RUNNING))
    assert silences(activity, clock, 700) == [30, 60, 120, 300, 600]
    assert activity.running() == "train (11:39), eval (11:29)"
    activity.spoke(700.0)
    assert silences(activity, clock, 800) == [730, 760]
    activity.add(change("train", S.COMPLETED))
    activity.add(change("eval", S.COMPLETED))
    assert silences(activity, clock, 9_000) == []
    assert activity.next_line_at() is None


def test_ux_03_awaited_services_have_lines_of_their_own() -> None:
    clock = Clock()
    activity = activity_of("web", clock=clock)
    activity.add(change("job", S.RUNNING))
    activity.add(change("web", S.RUNNING))
    assert silences(activity, clock, 100) == []
    activity.add(change("web", S.READY))
    assert silences(activity, clock, 200) == [99, 120]  # the first one was due long ago


def test_ux_02_a_long_stop_is_shown_too() -> None:
    clock = Clock()
    activity = activity_of("a", clock=clock)
    activity.add(change("a", S.STOPPING, "interrupted"))
    assert silences(activity, clock, 100) == [30, 60]


def test_only_the_first_of_many_running_tasks_are_named() -> None:
    clock = Clock()
    activity = Activity((), clock)
    for number in range(9):
        activity.add(change(f"t{number}", S.RUNNING))
    assert activity.running() == "t0 (00:00), t1 (00:00), t2 (00:00) and 6 more"


def test_what_runs_already_has_run_for_as_long_as_it_has() -> None:
    clock = Clock()
    clock.now = 1000.0
    activity = activity_of("web", clock=clock)
    activity.begin_with("web", S.RUNNING, 72.0)
    activity.begin_with("job", S.RUNNING, 5.0)
    activity.begin_with("done", S.COMPLETED, 5.0)
    activity.waits_for("web", "port 1 is not listening")
    assert activity.status() == "waiting for web (01:12): port 1 is not listening"
    assert activity.running() == "job (00:05)"


CHANGES = st.tuples(
    st.floats(0, 400),
    st.sampled_from("abc"),
    st.sampled_from((S.STARTING, S.RUNNING, S.READY, S.STOPPING, S.COMPLETED, S.FAILED)),
    st.sampled_from(("exit", "interrupted", "run_complete")),
)


@settings(deadline=None)
@given(st.lists(CHANGES, max_size=20), st.booleans())
def test_whatever_happens_lines_are_rare_and_end_with_the_tasks(
    changes: list[tuple[float, str, TaskState, str]], is_terminal: bool
) -> None:
    """Woken only when it asks, it never asks for a moment that has passed, and says at most as much as its cadence allows."""
    clock = Clock()
    activity = activity_of("a", "b", clock=clock)  # `c` is a job
    lines = 0

    def run_until(end: float) -> None:
        nonlocal lines
        while (due := activity.next_line_at()) is not None and due <= end:
            clock.now = max(clock.now, due)
            fresh = activity.lines(is_terminal)
            is_silent = not is_terminal and activity.ends_silence()
            assert is_terminal or fresh or is_silent  # what was due was said
            lines += len(fresh) + is_silent
            again = activity.next_line_at()
            assert again is None or again > clock.now
        clock.now = end

    begun = 0
    for pause, task, new, word in changes:
        if is_terminal:
            while (due := activity.next_line_at()) is not None and due <= clock.now + pause:
                clock.now = max(clock.now, due)
                lines += len(activity.lines(is_terminal=True))
                if activity.next_line_at() == due:
                    break  # of a silence, which only a file is told
            clock.now += pause
        else:
            run_until(clock.now + pause)
        begun += activity.add(change(task, new, word))
    for task in "abc":
        activity.add(change(task, S.COMPLETED))
    clock.now += 1.0
    lines += len(activity.lines(is_terminal))
    assert activity.next_line_at() is None
    assert activity.status() == activity.running() == ""
    spans = 2 + clock.now / 600
    assert lines <= (begun + len(changes) + 1) * (5 + spans)
