"""What a run tells of its course, and when."""

from typing import Any

from msgspec.structs import replace

from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState, Transition
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.notices import NoticeEvent, PlannedNotice
from sflow_ctl.report.notices import Course, RunNotice, is_wanted
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import summary
from tests.unit.ctl_output.test_report import plan_of

S = TaskState


def change(task: str, new: TaskState, word: str = "exit", old: TaskState = S.RUNNING) -> Transition:
    return Transition(task=task, attempt=1, old=old, new=new, reason=Reason(word, "exit status 1"), node=0)


def plan() -> Plan:
    """Two services, a job, a job whose failure does not count, and a task of the end."""
    tasks = plan_of("web", "db", "job", "extra", "last").tasks
    kinds = {"web": {"kind": "service"}, "db": {"kind": "service"}, "extra": {"on_failure": "continue"},
             "last": {"kind": "service", "finally_when": "after_stop"}}  # fmt: skip
    return replace(plan_of(), tasks=tuple(replace(task, **kinds.get(task.name, {})) for task in tasks))


def course(state: RunView | None = None) -> Course:
    return Course(state or RunView(plan()), "r-1", "/out/r-1", "n0")


def told(of: Course, *changes: Transition) -> list[RunNotice]:
    return [message for one in changes for message in of.note(one)]


def test_a_run_is_ready_once_when_all_services_have_been() -> None:
    of = course()
    assert (
        told(of, change("web", S.READY), change("web", S.WAITING, "restart"), change("job", S.COMPLETED))
        == []
    )
    (message,) = told(of, change("db", S.READY), change("web", S.READY), change("db", S.COMPLETED))
    assert message.event == "ready"
    assert message.text == "w is ready: all of its services are (r-1)".replace("w", message.workflow, 1)
    assert (message.run_id, message.directory, message.host) == ("r-1", "/out/r-1", "n0")


def test_there_is_a_notice_of_the_first_failure_that_counts() -> None:
    of = course()
    again = Transition(
        task="job", attempt=1, old=S.RUNNING, new=S.WAITING, reason=Reason("retry", "exit status 1"), node=0
    )
    assert told(of, again, change("extra", S.FAILED)) == []
    (message,) = told(of, change("job", S.TIMEOUT), change("web", S.FAILED))
    assert (message.event, message.task) == ("failure", "job")
    assert "task job timeout: exit status 1" in message.text


def test_the_end_of_each_task_is_told_if_a_notice_asks_for_it() -> None:
    of = Course(RunView(plan()), "r-1", "/out/r-1", "n0", tells_tasks=True)
    found = told(
        of,
        change("job", S.FAILED),
        change("extra", S.COMPLETED),
        change("web", S.CANCELLED),
        change("db", S.WAITING),
    )
    assert [(one.event, one.task) for one in found] == [
        ("failure", "job"), ("task_failed", "job"), ("task_succeeded", "extra"), ("task_finished", "web"),
    ]  # fmt: skip


def test_a_notice_is_about_its_events_and_tasks() -> None:
    def wanted(on: NoticeEvent, tasks: tuple[str, ...] = ("*",), **facts: Any) -> bool:
        message = replace(
            RunNotice(event="end", text="", run_id="", workflow="", directory="", host=""), **facts
        )
        return is_wanted(PlannedNotice(on=(on,), command=("x",), timeout_s=1, tasks=tasks), message)

    assert wanted("end", exit_status=0)
    assert wanted("run_succeeded", exit_status=0)
    assert not wanted("run_failed", exit_status=0)
    assert wanted("run_failed", exit_status=3)
    assert wanted("task_failed", ("t*",), event="task_failed", task="train_1")
    assert wanted("task_finished", ("t*",), event="task_failed", task="train_1")
    assert not wanted("task_finished", ("e*",), event="task_failed", task="train_1")
    assert not wanted("end", event="task_failed", task="train_1")


def test_notices_of_a_controller_before_are_not_sent_again() -> None:
    state = RunView(plan())
    for one in (change("web", S.READY), change("db", S.READY), change("job", S.FAILED)):
        state.apply(one, 1)
    assert told(course(state), change("db", S.READY), change("job", S.FAILED), change("web", S.LOST)) == []


def test_the_end_has_its_outcome_and_cause() -> None:
    state = RunView(plan())
    ended = summary(
        state,
        Outcome.FAILED,
        FirstCause(text="task job failed: exit status 1", task="job"),
        run_id="r-1",
        exit_status=1,
        started_wall_ns=0,
        ended_wall_ns=2_500_000_000,
        survivors=(),
        refused={},
        output_problems={},
        resumed=None,
        takeovers=(),
    )
    message = course(state).end(ended)
    assert (message.event, message.outcome, message.exit_status) == ("end", "failed", 1)
    assert (message.task, message.duration_s) == ("job", 2.5)
    assert message.text.endswith("failed after 2.50 s: task job failed: exit status 1 (r-1)")
