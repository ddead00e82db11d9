"""What the console says of services that are not ready and of tasks that are being stopped."""

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


def test_the_end_of_one_service_is_not_a_stop_of_the_run() -> None:
    activity = activity_of("a", clock=Clock())
    activity.add(change("a", S.STOPPING, "run_complete"))
    assert activity.status() == ""
    assert activity.next_line_at() is None
