"""The console's lines about services that are not ready and tasks that are being stopped."""

from sflow_ctl.cli.terminal.activity import Activity
from sflow_ctl.core.states import Reason, TaskState, Transition
from tests.unit.ctl_output.test_report import plan_of

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


def test_ux_02_services_that_are_not_needed_any_more_stop_in_the_status_line() -> None:
    activity = activity_of("a", clock=Clock())
    activity.add(change("a", S.STOPPING, "run_complete"))
    assert activity.status() == "stopping a, SIGKILL in 5 s"
    assert activity.next_line_at() is None
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
