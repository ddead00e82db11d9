"""Services that end with status 0, parts of job steps on several nodes, and jobs that Slurm ends."""

import msgspec
import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.checks import HttpCheck, Probe
from protocol.messages.facts import LaunchFailed
from protocol.messages.orders import EndStep
from protocol.messages.rank_spec import SideCommand, Stopping
from sflow_ctl.core.commands import SendToAgent
from sflow_ctl.core.events import JobEnding, JobEndKnown, MessageReceived, StopRequested
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Placement, PlannedTask
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, LINE, a_plan, a_task, cleared, exited, hello, leased, waits

S = TaskState


# ---------------------------------------------------------------------- services that end with status 0


def test_clusters_f1_a_loader_that_has_printed_its_line_may_leave() -> None:
    """It is neither a server nor on GPUs: its line was all that others waited for."""
    run = Driver.joined(a_plan(a_task("load", probes=(LINE,)), a_task("a", "load"), a_task("b", "a", "load")))
    run.serve("load")
    run.start("a")
    run.end("load", 0)
    assert run.states("load", "a", "b") == [S.COMPLETED, S.RUNNING, S.WAITING]
    run.end("a")
    run.start("b")
    run.end("b")
    assert run.leave().outcome is Outcome.COMPLETED


HTTP_PROBE = Probe(kind="failure", checks=(HttpCheck(method="GET", url="http://localhost:1/"),))


@pytest.mark.parametrize(
    "server",
    [
        a_task("s", probes=(LINE,), placement=Placement(nodes=(0,), gpus=(1,))),
        a_task("s", probes=(LINE,), ports=(HTTP,)),
        a_task("s", probes=(LINE, HTTP_PROBE)),
        a_task("s", probes=(LINE,), kind="service"),
        a_task("s", probes=(LINE,), restart=Restart(count=0)),
    ],
    ids=["GPUs", "leased port", "probe of a URL", "declared", "restarted"],
)
def test_clusters_f1_what_serves_others_must_stay(server: PlannedTask) -> None:
    run = Driver.joined(a_plan(server, a_task("a", "s"), gpus=4))
    if server.ports:
        run(leased("s", 1, http=1234))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.why("s") == "exit: exit status 0, while a still needs it"


def test_clusters_f1_what_has_listened_on_a_port_must_stay() -> None:
    run = Driver.joined(a_plan(a_task("s", probes=(LINE,)), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    end = exited("s")
    run(msgspec.structs.replace(end, message=msgspec.structs.replace(end.message, has_listened=True)))
    assert run.task("s").state is S.FAILED


def test_clusters_f1_a_service_that_leaves_before_it_is_ready_has_failed() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True, retries=1, interval_s=0.0), a_task("a", "s")))
    for attempt in (1, 2):
        run.start("s")
        said = run(waits("s", attempt, "port 1000 is not listening"))
        assert said == [f"s#{attempt} waits: port 1000 is not listening"]
        run.end("s", 0)
        if attempt == 1:
            run.wake()
    assert (
        run.why("s")
        == "not_ready: exited with status 0 before it was ready: port 1000 is not listening (service exited before readiness)"
    )
    assert run.task("a").state is S.CANCELLED
    assert run.cause().startswith("task s exited with status 0 before it was ready")


def test_clusters_f1_before_it_is_ready_other_good_statuses_are_like_0() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True, success_exit_codes=(0, 3))))
    run.start("s")
    run.end("s", 3)
    assert (
        run.why("s")
        == "not_ready: exited with status 3 before it was ready (service exited before readiness)"
    )


def test_clusters_f1_a_job_with_a_readiness_probe_need_not_become_ready() -> None:
    run = Driver.joined(a_plan(a_task("t", service=True, kind="task"), a_task("a", "t")))
    run.start("t")
    run.end("t", 0)
    assert run.states("t", "a") == [S.COMPLETED, S.STARTING]


def test_clusters_f1_the_references_earlier_rule_lets_a_service_leave_unready() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), a_task("a", "s"), services_may_leave=True))
    run.start("s")
    run.end("s", 0)
    assert run.states("s", "a") == [S.COMPLETED, S.STARTING]


# ---------------------------------------------------------------------- Slurm ends the job


def test_clusters_f13_final_tasks_have_the_time_until_slurm_kills() -> None:
    run = Driver.joined(a_plan(a_task("a"), a_task("f", finally_when="after_stop", timeout_s=60.0)))
    run.start("a")
    run(JobEnding(within_s=30.0), now=100.0)
    assert run.stopped() == ["a"]
    run.end("a", signal=15)
    run.start("f")
    run.wake()
    assert run.now == 120.0, "agents have the last 10 s"
    assert run.stopped()[-1] == "f"


def test_clusters_f13_once_slurm_ends_the_job_its_time_limit_does_not_count() -> None:
    run = Driver.joined(a_plan(a_task("a"), a_task("f", finally_when="after_stop", timeout_s=60.0)))
    run.start("a")
    run(JobEnding(within_s=30.0), now=100.0)
    run.end("a", signal=15)
    run.start("f")
    run(JobEndKnown(gone_at=5000.0))
    run.wake()
    assert run.now == 120.0


def test_clusters_f12_a_failure_of_the_same_moment_may_be_slurms_doing() -> None:
    for delay_s, expected in ((0.1, True), (60.0, False)):
        run = Driver.joined(a_plan(a_task("s", service=True), a_task("a", "s")))
        run.serve("s")
        run.start("a")
        run(exited("s"), now=10.0)
        run(JobEnding(within_s=30.0), now=10.0 + delay_s)
        run.end("a", signal=15)
        finish = run.leave()
        assert finish.outcome is Outcome.FAILED
        assert finish.is_ended_by_slurm is expected


# ---------------------------------------------------------------------- parts of job steps


def step_orders(run: Driver) -> list[tuple[int, RankId, float]]:
    return [
        (c.node, c.message.part, c.message.patience_s)
        for c in run.commands
        if isinstance(c, SendToAgent) and isinstance(c.message, EndStep)
    ]


def a_step(name: str, *, stopping: Stopping | None = None, **chooses: bool) -> PlannedTask:
    task = a_task(name, placement=Placement(nodes=(0, 1)), stopping=stopping or Stopping())
    return msgspec.structs.replace(task, launch_kind="step", ranks_per_node=(1,), **chooses)


def part(name: str, number: int = 1) -> RankId:
    return RankId(AttemptId(name, 1), number)


def test_clusters_f5_a_step_holds_its_place_until_its_other_nodes_are_clear() -> None:
    run = Driver.joined(a_plan(a_step("a"), a_task("b"), nodes=2))
    run.start("a", "b")
    run.end("a")
    assert run.task("a").state is S.COMPLETED
    assert run.task("a").is_live
    assert step_orders(run) == [(1, part("a"), 0.0)]
    run(cleared("a", node=1, number=1))
    assert not run.task("a").is_live


def test_clusters_f4_stopping_a_step_reaches_all_its_nodes_and_waits_for_its_command() -> None:
    command = SideCommand(argv=("quit",), timeout_s=10.0)
    run = Driver.joined(a_plan(a_step("a", stopping=Stopping(command=command, grace_s=5.0)), nodes=2))
    run.start("a")
    run(StopRequested(signal="SIGINT"))
    assert run.stopped() == ["a"]
    assert step_orders(run) == [(1, part("a"), 10.0)]
    run.end("a", signal=15)
    assert step_orders(run)[1:] == [(1, part("a"), 0.0)]
    run(cleared("a", node=1, number=1))
    assert run.leave().outcome is Outcome.INTERRUPTED


def test_clusters_f5_a_lost_node_of_a_step_is_left_and_a_returned_one_ordered_again() -> None:
    run = Driver.joined(a_plan(a_step("a"), a_task("b"), nodes=2))
    run.start("a", "b")
    run(hello(1))
    assert run.task("a").attempt.parts_left, "a new session says nothing of a step that still runs"
    run.end("a")
    run(hello(1))
    assert len(step_orders(run)) == 2
    run.lose(1)
    assert not run.task("a").is_live


def test_clusters_f5_a_step_whose_options_choose_nodes_may_be_anywhere_in_the_job() -> None:
    run = Driver.joined(a_plan(a_step("a", chooses_step_nodes=True), a_task("b"), nodes=4))
    run.start("a", "b")
    run.end("a")
    assert [node for node, *_ in step_orders(run)] == [1, 2, 3]


def test_clusters_f5_a_step_that_could_not_be_started_has_nothing_anywhere() -> None:
    run = Driver.joined(a_plan(a_step("a"), nodes=2))
    run(MessageReceived(node=0, message=LaunchFailed(rank=part("a", 0), errno=2, reason="no srun")))
    assert not run.task("a").is_live
    assert step_orders(run) == []
