"""Uploads hold the exit of a task that has succeeded: done once, repeated in new sessions, ended by stops and lost nodes."""

import msgspec
import pytest

from protocol.ids import AttemptId
from protocol.messages.facts import RankExited, Uploaded, Uploading
from protocol.messages.orders import Leave, Stop, UploadFiles
from protocol.messages.uploads import (
    FileUpload,
    OnUploadError,
    StorageTarget,
    UploadedFile,
    UploadOutcome,
    UploadProblem,
)
from sflow_ctl.core.actions.resume import PriorResult, decide, has_uploads_left
from sflow_ctl.core.commands import RecordUploads, SendToAgent
from sflow_ctl.core.events import MessageReceived, OutputsCollected, StopRequested
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.results import PlannedOutput
from tests.unit.core.driver import Driver, replay
from tests.unit.core.plans import a_plan, a_task, cleared, exited, goodbye, hello, started

S = TaskState
TARGETS = tuple(StorageTarget(name=name, type="directory", path=f"/{name}") for name in ("res", "other"))
DONE = UploadOutcome(files=(UploadedFile(path="x.txt", address="/res/x.txt", bytes=3),), count=1, bytes=3)
LOST = UploadProblem(text="x.txt to /res/x.txt: the disk is full", is_failure=True)


def uploading(task: PlannedTask, on_error: OnUploadError = "warn") -> PlannedTask:
    return msgspec.structs.replace(
        task,
        uploads=(FileUpload(target="res", pattern="*.txt", on_error=on_error),),
        env={"SFLOW_TASK_OUTPUT_DIR": f"/run/{task.name}"},
    )


def plan(*tasks: PlannedTask, nodes: int = 1) -> Plan:
    return msgspec.structs.replace(a_plan(*tasks, nodes=nodes), storage=TARGETS)


def uploaded(task: str, outcome: UploadOutcome = DONE, node: int = 0, attempt: int = 1) -> MessageReceived:
    return MessageReceived(node=node, message=Uploaded(attempt=AttemptId(task, attempt), outcome=outcome))


def problem(
    text: str = "it failed", *, is_failure: bool = False, missing: int | None = None
) -> UploadOutcome:
    return UploadOutcome(problems=(UploadProblem(text=text, is_failure=is_failure, missing=missing),))


def begun(on_error: OnUploadError = "warn", **options: float) -> Driver:
    """A run whose task a uploads; b comes after it."""
    run = Driver.joined(plan(uploading(a_task("a", **options), on_error), a_task("b", "a")))  # type: ignore[arg-type]
    run.start("a")
    assert run(exited("a")) == ["a#1 waits: 1 upload begun", "0: upload a#1"]
    return run


def test_a_task_has_completed_when_its_files_are_uploaded() -> None:
    run = begun()
    (order,) = [
        m
        for m in (one.message for one in run.commands if isinstance(one, SendToAgent))
        if isinstance(m, UploadFiles)
    ]
    assert order == UploadFiles(
        attempt=AttemptId("a", 1),
        directory="/run/a",
        files=run.task("a").plan.uploads,
        targets=TARGETS[:1],
    )
    assert run.states("a", "b") == [S.RUNNING, S.WAITING]
    lines = run(uploaded("a"))
    assert lines.of(RecordUploads)[0].outcome == DONE
    assert lines.moves() == ["a completed", "b queued", "b starting"]


def test_uploads_come_after_outputs() -> None:
    task = msgspec.structs.replace(uploading(a_task("a")), outputs=(PlannedOutput(pattern="r = {r:g}"),))
    run = Driver.joined(plan(task))
    run.start("a")
    assert run(exited("a")) == ["collect outputs of a#1"]
    values = OutputsCollected(task="a", attempt=1, values={"r": 1.0})
    assert run(values) == ["a#1 waits: 1 upload begun", "0: upload a#1"]
    assert run(values) == [], "said again"
    assert "a#1 uploaded 1, 0 problems" in run(uploaded("a"))
    assert run.state("a") is S.COMPLETED


def test_progress_is_shown() -> None:
    run = begun()
    news = Uploading(attempt=AttemptId("a", 1), text="1 of 2 files")
    assert run(MessageReceived(node=0, message=news)) == ["a#1 waits: 1 of 2 files"]


def test_a_failed_task_uploads_nothing() -> None:
    run = Driver.joined(plan(uploading(a_task("a"))))
    run.start("a")
    assert run(exited("a", 1)).moves() == ["a failed"]


def test_a_task_that_is_stopped_uploads_nothing() -> None:
    run = Driver.joined(plan(uploading(a_task("a"))))
    run.start("a")
    run(StopRequested(signal="SIGINT"))
    assert run(exited("a", 0)).moves() == ["a cancelled"]


def test_a_service_that_was_never_ready_uploads_nothing() -> None:
    run = Driver.joined(plan(uploading(a_task("a", service=True)), a_task("b", "a")))
    run.start("a")
    assert run(exited("a", 0)).moves()[0] == "a failed"


def test_a_problem_is_a_warning_and_the_task_has_completed() -> None:
    run = begun()
    lines = run(uploaded("a", problem()))
    assert "a#1 uploaded 0, 1 problems" in lines
    assert lines.moves()[0] == "a completed"


def test_a_problem_that_must_not_be_fails_the_task_and_the_run_without_retries() -> None:
    run = begun("fail", retries=3)
    lines = run(uploaded("a", UploadOutcome(problems=(LOST,))))
    assert lines.moves() == ["a failed", "b cancelled"]
    assert "a#1 uploaded 0, 1 problems" in lines
    assert run.why("a") == "upload: x.txt to /res/x.txt: the disk is full"
    assert run.run.outcome is Outcome.FAILED
    assert run.cause().startswith("task a has completed, and its upload failed: x.txt")


def test_an_order_is_repeated_in_a_new_session_and_to_a_restarted_agent() -> None:
    run = begun()
    assert run(hello(0, "s2")) == ["0: accept s2", "0: upload a#1"]
    assert run(hello(0, "s3", incarnation=2)) == ["0: accept s3", "0: upload a#1"]
    assert "a#1 uploaded 1, 0 problems" in run(uploaded("a"))
    assert run(uploaded("a")) == [], "answered twice"
    assert run.state("a") is S.COMPLETED


def test_an_exit_in_a_hello_is_uploaded() -> None:
    run = Driver.joined(plan(uploading(a_task("a"))))
    run.start("a")
    message = exited("a").message
    assert isinstance(message, RankExited)
    lines = run(hello(0, "s2", exited=(message,)))
    assert set(lines) >= {"a#1 waits: 1 upload begun", "0: upload a#1"}


def test_the_timeout_of_the_task_ends_its_uploads() -> None:
    run = begun(timeout_s=60.0)
    lines = run.wake()
    assert run.now == 60.0
    assert lines == [
        "warn: a: its uploads are ended: did not end within its timeout of 60 s",
        "0: stop a#1 5",
    ]
    lines = run(uploaded("a", problem("x.txt was not uploaded completely")))
    assert "a#1 uploaded 0, 1 problems" in lines
    assert run.state("a") is S.COMPLETED, "its work is done"


def test_a_stop_ends_uploads_and_the_run_waits_for_their_answer() -> None:
    run = begun("fail")
    lines = run(StopRequested(signal="SIGINT"))
    assert [order.attempt for order in lines.orders(Stop)] == [AttemptId("a", 1)]
    assert "warn: a: its uploads are ended: stopped by SIGINT" in lines
    lines = run(uploaded("a", UploadOutcome(problems=(LOST,))))
    assert "a#1 uploaded 0, 1 problems" in lines
    assert run.state("a") is S.CANCELLED
    assert lines.orders(Leave)


def test_a_stop_is_repeated_with_its_upload_in_a_new_session() -> None:
    run = begun()
    assert list(run(StopRequested(signal="SIGINT")))[-1] == "0: stop a#1 5"
    lines = list(run(hello(0, "s2")))
    assert lines[:1] == ["0: accept s2"]
    assert lines.index("0: upload a#1") < len(lines) - 1
    assert lines[-1] == "0: stop a#1 5"


def test_a_second_signal_waits_for_no_upload() -> None:
    run = begun()
    assert "0: stop a#1 5" in list(run(StopRequested(signal="SIGINT")))
    lines = run(StopRequested(signal="SIGINT", force=True))
    assert lines.of(RecordUploads)[0].outcome.problems[0].text == (
        "its uploads were not done when the run was killed"
    )
    assert run.state("a") is S.COMPLETED
    assert "0: leave 0" in lines


def test_an_agent_that_does_not_end_an_upload_is_given_up() -> None:
    run = begun()
    list(run(StopRequested(signal="SIGINT")))
    lines = list(run.wake())
    assert "0: abandon" in lines
    assert "a#1 uploaded 0, 1 problems" in lines
    assert run.state("a") is S.COMPLETED


@pytest.mark.parametrize(("on_error", "state"), [("warn", S.COMPLETED), ("fail", S.FAILED)])
def test_a_lost_node_is_a_problem(on_error: OnUploadError, state: TaskState) -> None:
    run = begun(on_error)
    lines = run.lose(0)
    (record,) = lines.of(RecordUploads)
    list(lines)
    assert record.outcome.problems[0].text == "node localhost-0 was lost before its uploads were done"
    assert run.state("a") is state


def test_a_deadline_of_readiness_does_not_end_uploads() -> None:
    task = msgspec.structs.replace(uploading(a_task("a", service=True, kind="task")), deadlines_s=(10.0,))
    run = Driver.joined(plan(task))
    run.start("a")
    assert run(exited("a")) == ["a#1 waits: 1 upload begun", "0: upload a#1"]
    assert run.wake() == []
    assert run.now == 10.0


def test_of_nodes_that_share_the_run_directory_the_first_uploads() -> None:
    placement = Placement(nodes=(0, 1))
    run = Driver.joined(plan(uploading(a_task("a", placement=placement, ranks_per_node=(1, 1))), nodes=2))
    run(started("a"), started("a", node=1, rank_number=1))
    assert run(exited("a")) == []
    assert run(exited("a", node=1, rank_number=1)) == ["a#1 waits: 1 upload begun", "0: upload a#1"]


def test_nodes_with_directories_of_their_own_all_upload() -> None:
    placement = Placement(nodes=(0, 1))
    run = Driver(plan(uploading(a_task("a", placement=placement, ranks_per_node=(1, 1))), nodes=2))
    run(hello(0, shares_run_directory=False), hello(1, shares_run_directory=False))
    run(started("a"), started("a", node=1, rank_number=1), exited("a"))
    assert run(exited("a", node=1, rank_number=1)) == [
        "a#1 waits: 1 upload begun",
        "0: upload a#1",
        "1: upload a#1",
    ]
    assert run(uploaded("a", problem("*.txt: nothing", missing=0), node=1)) == []
    assert run(uploaded("a", node=1)) == [], "it has answered"
    lines = run(uploaded("a"))
    assert lines.of(RecordUploads)[0].outcome == DONE, "one of them has the files"
    assert run.state("a") is S.COMPLETED


def test_another_node_cannot_answer() -> None:
    run = Driver.joined(plan(uploading(a_task("a")), nodes=2))
    run.start("a")
    assert run(exited("a")) == ["a#1 waits: 1 upload begun", "0: upload a#1"]
    assert run(uploaded("a", node=1), uploaded("none"), uploaded("a", attempt=7)) == []
    assert run.run.foreign_messages == 1


def test_the_journal_of_a_run_with_uploads_replays() -> None:
    run = begun("fail")
    run(hello(0, "s2"))[:]
    run(uploaded("a", UploadOutcome(problems=(LOST,))))[:]
    run(cleared("a"), goodbye())[:]
    again = replay(run.run.plan, run.journal)
    assert again == run.commands


def test_an_upload_at_the_end_of_a_run_that_fails_fails_the_run() -> None:
    final = uploading(a_task("f", finally_when="after_stop", timeout_s=30.0), "fail")
    run = Driver.joined(plan(a_task("a"), final))
    run.start("a")
    run.end("a")
    run.start("f")
    assert run(exited("f")) == ["f#1 waits: 1 upload begun", "0: upload f#1"]
    assert "f#1 uploaded 0, 1 problems" in run(uploaded("f", UploadOutcome(problems=(LOST,))))
    assert run.run.outcome is Outcome.FAILED


def test_a_resumed_run_uploads_what_was_left_and_runs_nothing_for_it() -> None:
    """On a node alone: with no GPU, no port and no process, before what comes after it."""
    whole = plan(uploading(a_task("a", timeout_s=60.0), "fail"), a_task("b", "a"))
    prior = PriorResult(S.RUNNING, 1, is_done=True, exit_code=0, has_uploads_left=True)
    run = Driver(whole, earlier={"a": prior})
    assert run.states("a", "b") == [S.RUNNING, S.WAITING]
    assert run.task("a").attempt_id == ("a", 2)
    lines = run(hello())
    assert lines[-2:] == ["0: accept s1", "0: upload a#2"]
    lines = run(uploaded("a", attempt=2))
    assert "a#2 uploaded 1, 0 problems" in lines
    assert lines.moves() == ["a completed", "b queued", "b starting"]
    assert run.spawned() == ["b#1"]


def test_what_was_left_of_a_task_is_done_also_if_what_it_needs_is_kept() -> None:
    whole = plan(a_task("first"), uploading(a_task("a", "first", timeout_s=60.0), "fail"))
    earlier = {
        "first": PriorResult(S.COMPLETED, 1, is_done=True, exit_code=0),
        "a": PriorResult(S.RUNNING, 1, is_done=True, exit_code=0, has_uploads_left=True),
    }
    run = Driver(whole, earlier=earlier)
    assert run.states("first", "a") == [S.COMPLETED, S.RUNNING]
    assert run(hello())[-1] == "0: upload a#2"
    lines = run(uploaded("a", attempt=2))
    assert "a#2 uploaded 1, 0 problems" in lines
    assert lines.moves() == ["a completed"]
    assert run.spawned() == []


def test_the_timeout_holds_for_an_upload_that_was_left() -> None:
    whole = plan(uploading(a_task("a", timeout_s=60.0), "fail"))
    prior = PriorResult(S.RUNNING, 1, is_done=True, has_uploads_left=True)
    run = Driver.joined(whole, earlier={"a": prior})
    list(run.wake())
    assert run.now == 60.0
    assert run.stopped() == ["a"]
    lost = run(uploaded("a", UploadOutcome(problems=(LOST,)), attempt=2))
    assert "a#2 uploaded 0, 1 problems" in lost
    assert run.state("a") is S.FAILED


def test_files_are_uploaded_again_only_if_that_was_not_done_or_goes_elsewhere() -> None:
    old = plan(uploading(a_task("a")), a_task("b"))
    moved = msgspec.structs.replace(
        old, storage=(StorageTarget(name="res", type="directory", path="/new"), TARGETS[1])
    )
    elsewhere = msgspec.structs.replace(old, storage=(TARGETS[0],))
    assert has_uploads_left("a", old, old, True)
    assert not has_uploads_left("a", old, old, False)
    assert not has_uploads_left("a", elsewhere, old, False), "the other target is not used"
    assert has_uploads_left("a", moved, old, False)
    assert not has_uploads_left("b", moved, old, True)
    assert decide(moved, dict.fromkeys("ab", old), {}) == ({"a", "b"}, {}), "the same work"
