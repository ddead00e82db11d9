"""Which ends are retried by their exit status, faults of nodes with a budget of their own, and nodes that are avoided."""

from pathlib import Path

import msgspec
import pytest

from protocol.messages.facts import LaunchFailed
from sflow_ctl.core.events import MessageReceived, WakeUp
from sflow_ctl.core.policy.restart_policy import begin_without_past
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Placement
from sflow_ctl.plan.parts.again import Retries
from tests.unit.core.driver import Driver
from tests.unit.core.plans import a_plan, a_task, exited, hello, rank, started
from tests.unit.core.test_moves import ANY, Run
from tests.unit.planner.planning import findings_of, plan_of

S = TaskState


def ended_with(code: int, retries: Retries) -> TaskState:
    drive = Driver(a_plan(msgspec.structs.replace(a_task("a"), retries=retries)))
    drive(hello(), started("a"), exited("a", code), now=1.0)
    return drive.state("a")


@pytest.mark.parametrize(
    ("code", "retries", "is_retried"),
    [
        (1, Retries(count=1), True),
        (64, Retries(count=1), False),
        (78, Retries(count=1), False),
        (75, Retries(count=1, reasons=()), True),
        (1, Retries(count=1, reasons=()), False),
        (75, Retries(count=0), False),
        (75, Retries(count=1, transient_codes=(9,), reasons=()), False),
        (9, Retries(count=1, transient_codes=(9,), reasons=("nccl",)), True),
        (3, Retries(count=1, fatal_codes=(3,)), False),
        (64, Retries(count=1, fatal_codes=()), True),
    ],
)
def test_an_exit_status_may_decide(code: int, retries: Retries, is_retried: bool) -> None:
    assert ended_with(code, retries) is (S.WAITING if is_retried else S.FAILED)


@pytest.mark.parametrize("reasons", [("exit",), ("run_complete", "exit")])
def test_what_has_completed_is_not_retried_for_a_reason_that_failures_have_too(
    reasons: tuple[str, ...],
) -> None:
    assert ended_with(0, Retries(count=1, reasons=reasons)) is S.COMPLETED


def test_the_pause_grows_up_to_a_limit() -> None:
    retries = Retries(count=5, interval_s=10, backoff=3, max_interval_s=50)
    drive = Driver(a_plan(msgspec.structs.replace(a_task("a"), retries=retries)))
    drive(hello())
    said = []
    for attempt in (1, 2, 3, 4):
        drive(started("a", attempt), exited("a", 1, attempt))
        reason = drive.task("a").last_reason
        assert reason is not None
        said.append(reason.text.rpartition(" in ")[2])
        drive.wake()
    assert said == ["10 s", "30 s", "50 s", "50 s"]


def test_faults_of_nodes_have_a_budget_of_their_own() -> None:
    retries = Retries(count=1, infra_count=2)
    task = a_task("a", placement=ANY)
    run = Run(a_plan(msgspec.structs.replace(task, retries=retries), nodes=3))
    record = run.scheduler.run.task_named("a")
    for used in (1, 2):
        run.lose(run.spawned[-1][0], is_cleared=True)
        assert (record.infra_used, record.retries_used) == (used, 0)
        assert record.last_reason is not None
        assert f"attempt after a fault of its node, {used} of 2, not counted" in record.last_reason.text
        run.tell(WakeUp(), now=10.0 * used)
    assert record.attempt.number == 3
    run.tell(exited("a", 1, 3, node=run.spawned[-1][0]), now=30.0)
    assert (record.infra_used, record.retries_used) == (2, 1), "its own failure uses its own budget"


def test_nodes_that_could_not_start_a_task_are_avoided() -> None:
    retries = Retries(count=3, avoids_nodes=True)
    task = msgspec.structs.replace(a_task("a", placement=ANY), retries=retries)
    drive = Driver(a_plan(task, nodes=3))
    drive(hello(0, "s0"), hello(1, "s1"), hello(2, "s2"))
    nodes: list[int] = []
    for attempt in (1, 2, 3):
        placement = drive.task("a").attempt.placement
        assert placement is not None
        nodes += placement.nodes
        failed = LaunchFailed(rank=rank("a", attempt), errno=2, reason="no such program")
        drive(MessageReceived(node=nodes[-1], message=failed))
        drive.wake()
    assert sorted(nodes) == [0, 1, 2]
    assert drive.state("a") in (S.STARTING, S.RUNNING), "all are tried again where none is left"


def test_where_no_other_node_is_left_the_same_one_is_tried() -> None:
    task = msgspec.structs.replace(
        a_task("a", placement=Placement(nodes=(0,))), retries=Retries(count=1, avoids_nodes=True)
    )
    drive = Driver(a_plan(task))
    drive(hello())
    drive(MessageReceived(node=0, message=LaunchFailed(rank=rank("a"), errno=2, reason="gone")))
    drive.wake()
    assert drive.state("a") in (S.STARTING, S.RUNNING)
    assert drive.task("a").shunned == {0}


RETRIES = "workflow: {{name: w, tasks: [{{name: t, script: [x], retries: {{count: 2, interval: 1, {}}}}}]}}"


def test_the_fields_of_the_file_are_planned(tmp_path: Path) -> None:
    more = "reasons: [], max_interval: 5m, exit_codes: {fatal: [3]}, infra_count: 4, avoid_node: true"
    assert plan_of(tmp_path, RETRIES.format(more)).tasks[0].retries == Retries(
        count=2,
        interval_s=1.0,
        max_interval_s=300.0,
        reasons=(),
        transient_codes=(75,),
        fatal_codes=(3,),
        infra_count=4,
        avoids_nodes=True,
    )
    named = plan_of(tmp_path, RETRIES.format("avoid_node: false")).tasks[0].retries
    assert (named.infra_count, named.avoids_nodes) == (2, False)
    usual = plan_of(tmp_path, RETRIES.format("exit_codes: {retry: [64, 1]}")).tasks[0].retries
    assert (usual.transient_codes, usual.fatal_codes, usual.reasons) == ((64, 1), (78,), None)


@pytest.mark.parametrize(
    ("field", "faults"),
    [
        ("", 2),
        ("retries: 1", 2),
        ("retries: {count: 1, interval: 1, infra_count: 0}", 0),
        ("kind: service", 0),
    ],
)
def test_a_job_is_tried_again_after_faults_of_nodes(tmp_path: Path, field: str, faults: int) -> None:
    text = f"workflow:\n  name: w\n  tasks:\n    t:\n      script: x\n      {field}\n    u: {{script: x}}\n"
    usual = plan_of(tmp_path, text).tasks[0].retries
    assert usual.infra_count == faults
    assert usual.avoids_nodes == (field in ("", "retries: 1") or "infra_count" in field)
    strict = plan_of(tmp_path, text.replace("kind: service", ""), compat="0.3.1").tasks[0].retries
    assert (strict.infra_count, strict.avoids_nodes) == (0, False)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("exit_codes: {retry: [3], fatal: [3]}", "exit status 3 is both retried and fatal"),
        ("exit_codes: {retry: [300]}", "exit status 300 does not exist"),
        ("exit_codes: {fatal: [0]}", "retries.exit_codes.fatal.0 must be at least 1"),
        ("infra_count: -1", "retries.infra_count must be at least 0"),
    ],
)
def test_what_is_wrong_with_them_is_said(tmp_path: Path, more: str, said: str) -> None:
    (finding,) = findings_of(tmp_path, RETRIES.format(more))
    assert said in finding.what


# ---------------------------------------------------------------------- one limit for all attempts


def limited(**retries: object) -> Driver:
    drive = Driver(a_plan(msgspec.structs.replace(a_task("a"), retries=Retries(**retries))))  # type: ignore[arg-type]
    drive(hello(), now=5.0)
    return drive


def why(drive: Driver) -> str:
    reason = drive.task("a").last_reason
    return "" if reason is None else reason.text


def test_the_time_of_all_attempts_ends_the_one_that_runs() -> None:
    drive = limited(count=9, interval_s=10, total_s=30)
    drive(started("a"), exited("a", 1), now=15.0)
    drive.wake()
    assert (drive.now, drive.task("a").attempt.number) == (25.0, 2)
    drive(started("a", 2))
    list(drive.wake())
    assert drive.now == 35.0, "30 s after the first attempt began"
    assert drive.state("a") is S.STOPPING
    list(drive(exited("a", 143, 2)))
    assert drive.state("a") is S.TIMEOUT
    assert "did not end within its total_timeout of 30 s for all attempts" in why(drive)


def test_no_attempt_begins_when_the_time_of_all_would_be_over() -> None:
    drive = limited(count=9, interval_s=10, total_s=30)
    drive(started("a"), now=6.0)
    list(drive(exited("a", 1), now=25.0))
    assert drive.state("a") is S.FAILED


def test_an_attempt_that_was_asked_for_has_all_of_the_time() -> None:
    drive = limited(count=9, interval_s=10, total_s=30)
    record = drive.task("a")
    begin_without_past(record)
    assert record.tries_since is None


@pytest.mark.parametrize(
    ("fields", "total_s", "problem"),
    [
        ("total_timeout: 1h", 3600.0, ""),
        ("total_timeout: 0", None, ""),
        ("total_timeout: 5, retries: 3", 5.0, ""),
        ("total_timeout: 5, kind: service", None, "is a service, which does not end by itself"),
        ("total_timeout: soon", None, "total_timeout"),
    ],
)
def test_total_timeout_of_the_file(tmp_path: Path, fields: str, total_s: float | None, problem: str) -> None:
    text = f"workflow: {{name: w, tasks: [{{name: t, script: [x], {fields}}}, {{name: u, script: [x]}}]}}"
    if problem:
        assert any(problem in one.what for one in findings_of(tmp_path, text))
        return
    assert plan_of(tmp_path, text).tasks[0].retries.total_s == total_s
    assert plan_of(tmp_path, text, compat="0.3.1").tasks[0].retries.total_s is None
