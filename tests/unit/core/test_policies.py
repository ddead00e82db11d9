"""What ends what: failures that count or not, restarts in place, main and final tasks, services that leave."""

import msgspec
import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.checks import HttpCheck, Probe
from protocol.messages.facts import LaunchFailed
from protocol.messages.orders import EndStep, Spawn, Stop
from protocol.messages.rank_spec import SideCommand, Stopping
from sflow_ctl.core.commands import Command, FinishRun, RecordTransition, SendToAgent
from sflow_ctl.core.events import AgentLost, JobEnding, MessageReceived, SchedulerEvent, StopRequested, WakeUp
from sflow_ctl.core.invariants import check_invariants
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Dependency, Placement, Plan, PlannedTask, Restart
from tests.unit.core.plans import (
    HTTP,
    LINE,
    a_plan,
    a_task,
    cleared,
    exited,
    goodbye,
    hello,
    leased,
    ready,
    started,
    waits,
)

S = TaskState


class Run:
    """A scheduler on one node whose agent has reported; remembers what it was told to do."""

    def __init__(self, plan: Plan, gone_at: float | None = None) -> None:
        self.scheduler = Scheduler(plan, gone_at=gone_at)
        self.commands: list[Command] = []
        self.now = 0.0
        for node in range(len(plan.nodes)):
            self.tell(hello(node))

    def tell(self, event: SchedulerEvent, now: float | None = None) -> None:
        self.now = self.now if now is None else now
        self.commands += self.scheduler.handle(event, self.now)
        check_invariants(self.scheduler.run)

    def start(self, *names: str) -> None:
        for name in names:
            self.tell(started(name, self.task(name).attempt.number))

    def serve(self, *names: str) -> None:
        self.start(*names)
        for name in names:
            self.tell(ready(name, self.task(name).attempt.number))

    def end(self, name: str, code: int = 0, signal: int | None = None, node: int = 0) -> None:
        self.tell(exited(name, code, self.task(name).attempt.number, node=node, signal=signal))

    def wake(self) -> None:
        """At the next time that something is due."""
        at = self.scheduler.next_wakeup()
        assert at is not None
        self.tell(WakeUp(), at)

    def task(self, name: str) -> Task:
        return self.scheduler.run.task_named(name)

    def states(self, *names: str) -> list[TaskState]:
        return [self.task(name).state for name in names]

    def why(self, name: str) -> str:
        """The last reason of a task."""
        reasons = [
            c.transition.reason
            for c in self.commands
            if isinstance(c, RecordTransition) and c.transition.task == name
        ]
        return f"{reasons[-1].word}: {reasons[-1].text}"

    def spawned(self) -> list[str]:
        return [
            str(spec.rank.attempt)
            for c in self.commands
            if isinstance(c, SendToAgent) and isinstance(c.message, Spawn)
            for spec in c.message.ranks
        ]

    def stopped(self) -> list[str]:
        return [
            c.message.attempt.task
            for c in self.commands
            if isinstance(c, SendToAgent) and isinstance(c.message, Stop)
        ]

    def leave(self) -> FinishRun:
        """All agents say goodbye: the run is over."""
        for node in range(len(self.scheduler.run.nodes)):
            self.tell(goodbye(node))
        finish = self.commands[-1]
        assert isinstance(finish, FinishRun)
        return finish


# ---------------------------------------------------------------------- on_failure


def test_drain_lets_what_runs_end_and_starts_nothing() -> None:
    run = Run(a_plan(a_task("a", on_failure="drain", retries=0), a_task("b"), a_task("c", "b")))
    run.start("a", "b")
    run.end("a", 3)
    assert run.states("a", "b", "c") == [S.FAILED, S.RUNNING, S.CANCELLED]
    assert run.scheduler.run.outcome is None
    run.end("b")
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None and finish.cause.task == "a"
    assert run.spawned() == ["a#1", "b#1"]


def test_drain_does_not_wait_for_services() -> None:
    run = Run(a_plan(a_task("s", service=True), a_task("a", "s", on_failure="drain"), a_task("b", "s")))
    run.serve("s")
    run.start("a", "b")
    run.end("a", 1)
    run.end("b")
    assert run.stopped() == ["s"]


def test_isolate_stops_only_what_needs_the_failed_task() -> None:
    plan = a_plan(
        a_task("s", service=True, on_failure="isolate"),
        a_task("client", "s"),
        a_task("later", "client"),
        a_task("other"),
    )
    run = Run(plan)
    run.serve("s")
    run.start("client", "other")
    run.end("s", 9)
    assert run.states("s", "client", "later", "other") == [S.FAILED, S.STOPPING, S.WAITING, S.RUNNING]
    run.end("client", signal=15)
    assert run.states("client", "later", "other") == [S.CANCELLED, S.SKIPPED, S.RUNNING]
    assert run.why("client") == "upstream: needs s, which is failed"
    assert run.why("later") == "upstream: needs client, which is cancelled"
    run.end("other")
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED and finish.cause is not None and finish.cause.task == "s"


def test_continue_is_a_failure_that_does_not_count() -> None:
    run = Run(a_plan(a_task("a", on_failure="continue"), a_task("b", "a"), a_task("c", after_end=("a",))))
    run.start("a")
    run.end("a", 3)
    assert run.states("a", "b", "c") == [S.FAILED, S.SKIPPED, S.STARTING]
    run.start("c")
    run.end("c")
    assert run.leave().outcome is Outcome.COMPLETED


def test_an_edge_for_failures_runs_only_then() -> None:
    plan = a_plan(a_task("a", on_failure="continue"), a_task("rescue", after_failure=("a",)))
    run = Run(plan)
    run.start("a")
    run.end("a")
    assert run.states("rescue") == [S.SKIPPED]
    assert run.why("rescue") == "upstream: needs a, which is completed"
    run = Run(plan)
    run.start("a")
    run.end("a", 1)
    assert run.states("rescue") == [S.STARTING]


def test_one_failed_replica_is_a_failure_of_the_group() -> None:
    replicas = [a_task(f"a_{n}", base="a", on_failure="continue") for n in range(3)]
    any_of_them = (Dependency(task="a", until="failed", is_group=True),)
    rescue = msgspec.structs.replace(a_task("rescue"), depends_on=any_of_them)
    run = Run(a_plan(*replicas, rescue))
    run.start("a_0", "a_1", "a_2")
    run.end("a_0")
    run.end("a_1", 1)
    assert run.states("rescue") == [S.STARTING]


def test_a_long_chain_is_skipped_at_once() -> None:
    tasks = [a_task("t0", on_failure="continue")]
    tasks += [a_task(f"t{n}", f"t{n - 1}") for n in range(1, 5000)]
    run = Scheduler(a_plan(*tasks))
    run.handle(hello(), 0.0)
    run.handle(started("t0"), 0.0)
    run.handle(exited("t0", 1), 0.0)
    assert all(task.state is S.SKIPPED for task in run.run.tasks[1:])
    assert run.run.outcome is Outcome.COMPLETED


# ---------------------------------------------------------------------- exit statuses


def test_other_statuses_may_be_success() -> None:
    run = Run(a_plan(a_task("a", success_exit_codes=(0, 3)), a_task("b", "a")))
    run.start("a")
    run.end("a", 3)
    assert run.states("a", "b") == [S.COMPLETED, S.STARTING]
    assert run.why("a") == "exit: exit status 3"


def test_of_several_ranks_a_failure_counts_more_than_a_high_success() -> None:
    run = Run(a_plan(a_task("a", success_exit_codes=(0, 200), ranks_per_node=(2,))))
    for number in (0, 1):
        run.tell(started("a", rank_number=number))
    run.tell(exited("a", 200, rank_number=0))
    run.tell(exited("a", 1, rank_number=1))
    assert run.why("a") == "exit: rank 1: exit status 1"
    assert run.task("a").state is S.FAILED


# ---------------------------------------------------------------------- services that leave


def test_a_ready_service_that_leaves_while_it_is_needed_has_failed() -> None:
    run = Run(a_plan(a_task("s", service=True), a_task("a", "s"), a_task("b", "a", "s")))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.task("s").state is S.FAILED
    assert run.why("s") == "exit: exit status 0, while a, b still need it"
    assert run.scheduler.run.cause is not None and run.scheduler.run.cause.task == "s"


def test_clusters_f1_a_loader_that_has_printed_its_line_may_leave() -> None:
    """It is neither a server nor on GPUs: its line was all that others waited for."""
    run = Run(a_plan(a_task("load", probes=(LINE,)), a_task("a", "load"), a_task("b", "a", "load")))
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
    run = Run(a_plan(server, a_task("a", "s"), gpus=4))
    if server.ports:
        run.tell(leased("s", 1, http=1234))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.why("s") == "exit: exit status 0, while a still needs it"


def test_clusters_f1_what_has_listened_on_a_port_must_stay() -> None:
    run = Run(a_plan(a_task("s", probes=(LINE,)), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    end = exited("s")
    run.tell(msgspec.structs.replace(end, message=msgspec.structs.replace(end.message, has_listened=True)))
    assert run.task("s").state is S.FAILED


def test_clusters_f1_a_service_that_leaves_before_it_is_ready_has_failed() -> None:
    run = Run(a_plan(a_task("s", service=True, retries=1, interval_s=0.0), a_task("a", "s")))
    for attempt in (1, 2):
        run.start("s")
        run.tell(waits("s", attempt, "port 1000 is not listening"))
        run.end("s", 0)
        run.wake()
    assert run.why("s") == "not_ready: exited with status 0 before it was ready: port 1000 is not listening"
    assert run.task("a").state is S.CANCELLED
    cause = run.scheduler.run.cause
    assert cause is not None and cause.text.startswith("task s exited with status 0 before it was ready")


def test_clusters_f1_before_it_is_ready_other_good_statuses_are_like_0() -> None:
    run = Run(a_plan(a_task("s", service=True, success_exit_codes=(0, 3))))
    run.start("s")
    run.end("s", 3)
    assert run.why("s") == "not_ready: exited with status 3 before it was ready"


def test_clusters_f1_a_job_with_a_readiness_probe_need_not_become_ready() -> None:
    run = Run(a_plan(a_task("t", service=True, kind="task"), a_task("a", "t")))
    run.start("t")
    run.end("t", 0)
    assert run.states("t", "a") == [S.COMPLETED, S.STARTING]


def test_clusters_f1_the_references_earlier_rule_lets_a_service_leave_unready() -> None:
    run = Run(a_plan(a_task("s", service=True), a_task("a", "s"), services_may_leave=True))
    run.start("s")
    run.end("s", 0)
    assert run.states("s", "a") == [S.COMPLETED, S.STARTING]


def test_a_service_that_nobody_needs_any_more_may_leave() -> None:
    run = Run(a_plan(a_task("s", service=True), a_task("a", "s"), a_task("z")))
    run.serve("s")
    run.start("a", "z")
    run.end("a")
    run.end("s", 0)
    assert run.task("s").state is S.COMPLETED and run.scheduler.run.outcome is None


def test_the_references_rule_lets_it_leave() -> None:
    run = Run(a_plan(a_task("s", service=True), a_task("a", "s"), services_may_leave=True))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.states("s", "a") == [S.COMPLETED, S.RUNNING]


def test_a_service_without_a_probe_is_ready_when_it_runs() -> None:
    run = Run(a_plan(a_task("s", kind="service"), a_task("a", "s")))
    run.start("s")
    assert run.states("s", "a") == [S.READY, S.STARTING]
    run.start("a")
    run.end("a")
    assert run.stopped() == ["s"]


def test_a_task_with_a_readiness_probe_is_waited_for() -> None:
    run = Run(a_plan(a_task("t", service=True, kind="task"), a_task("a", "t")))
    run.serve("t")
    run.start("a")
    run.end("a")
    assert run.scheduler.run.outcome is None and run.task("t").state is S.READY
    run.end("t")
    assert run.leave().outcome is Outcome.COMPLETED


def test_enough_replicas_are_enough() -> None:
    workers = [a_task(f"w_{n}", base="w", service=True, min_ready=2) for n in range(3)]
    run = Run(a_plan(*workers, a_task("a", groups=("w",))))
    run.serve("w_0")
    assert run.task("a").state is S.WAITING
    run.serve("w_2")
    assert run.task("a").state is S.STARTING
    run.start("a", "w_1")
    run.end("a")
    assert run.scheduler.run.outcome is None, "one replica is still on its way"


def test_a_replica_too_many_may_leave() -> None:
    workers = [a_task(f"w_{n}", base="w", service=True, min_ready=1) for n in range(2)]
    run = Run(a_plan(*workers, a_task("a", groups=("w",))))
    run.serve("w_0", "w_1")
    run.start("a")
    run.end("w_1", 0)
    assert run.task("w_1").state is S.COMPLETED
    run.end("w_0", 0)
    assert run.task("w_0").state is S.FAILED


def test_keep_alive_waits_for_somebody_to_stop_it() -> None:
    run = Run(a_plan(a_task("s", service=True), keep_alive=True))
    run.serve("s")
    assert run.scheduler.run.outcome is None
    run.tell(StopRequested(signal="SIGINT"))
    assert run.stopped() == ["s"]


def test_keep_alive_ends_with_the_last_service() -> None:
    run = Run(a_plan(a_task("s", service=True), keep_alive=True))
    run.serve("s")
    run.end("s", 0)
    assert run.leave().outcome is Outcome.COMPLETED


def test_the_first_cause_is_the_first_exit_not_the_first_that_is_heard_of() -> None:
    anywhere = Placement(nodes=(1,))
    plan = a_plan(a_task("s", service=True), a_task("c", "s", placement=anywhere), a_task("z", "s"), nodes=2)
    run = Run(plan)
    run.serve("s")
    run.start("c", "z")
    run.tell(exited("c", 1, node=1, runtime_s=5.2))  # what a client makes of its server's end
    assert run.scheduler.run.cause is not None and run.scheduler.run.cause.task == "c"
    run.tell(exited("s", signal=11, runtime_s=5.0))
    run.tell(exited("z", 1, runtime_s=5.3))
    assert run.states("s", "c", "z") == [S.FAILED, S.FAILED, S.CANCELLED]
    finish = run.leave()
    assert finish.cause is not None and finish.cause.task == "s"
    assert finish.cause.text == "process exited with error: s: killed by SIGSEGV"


def test_clocks_that_differ_are_compared_all_the_same() -> None:
    hour_ns = 3600 * 10**9
    scheduler = Scheduler(a_plan(a_task("s"), a_task("c", placement=Placement(nodes=(1,))), nodes=2))
    scheduler.handle(hello(0), 0.0)
    scheduler.handle(msgspec.structs.replace(hello(1), clock_ahead_ns=-hour_ns), 0.0)
    scheduler.handle(started("s"), 0.0)
    scheduler.handle(started("c", node=1, started_at_ns=hour_ns), 0.0)
    scheduler.handle(exited("c", 1, node=1, runtime_s=2.0), 2.0)
    scheduler.handle(exited("s", 1, runtime_s=1.0), 2.1)
    assert scheduler.run.cause is not None and scheduler.run.cause.task == "s"


# ---------------------------------------------------------------------- restarts


def test_a_restart_is_in_place() -> None:
    gpu = Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=1)
    service = a_task("s", service=True, placement=gpu, restart=Restart(count=1, backoff_s=2.0))
    run = Run(a_plan(service, a_task("rival", placement=gpu), nodes=2, gpus=1))
    place = run.task("s").attempt.placement
    run.serve("s")
    run.end("s", signal=11)
    assert run.states("s") == [S.WAITING] and run.task("s").attempt.placement == place
    assert run.why("s") == "restart: killed by SIGSEGV; restart 1 of 1 in 2 s"
    run.wake()
    assert run.now == 2.0 and run.task("s").state is S.STARTING and run.task("s").attempt.placement == place
    run.serve("s")
    run.end("s", 4)
    assert run.task("s").state is S.FAILED and run.scheduler.run.outcome is Outcome.FAILED


def test_restarts_outside_the_window_do_not_count() -> None:
    restart = Restart(count=1, backoff_s=1.0, window_s=10.0)
    run = Run(a_plan(a_task("s", service=True, restart=restart), a_task("a", "s")))
    run.serve("s")
    run.end("s", 1)
    run.wake()
    run.serve("s")
    run.tell(WakeUp(), 20.0)
    run.end("s", 1)
    assert run.why("s") == "restart: exit status 1; restart 1 of 1 in 1 s"
    run.wake()
    run.end("s", 1)
    assert run.task("s").state is S.FAILED


def test_the_backoff_doubles() -> None:
    run = Run(a_plan(a_task("s", service=True, restart=Restart(count=3, backoff_s=1.0))))
    delays = []
    for _ in range(3):
        run.end("s", 1)
        before = run.now
        run.wake()
        delays.append(run.now - before)
    assert delays == [1.0, 2.0, 4.0]


def test_always_also_restarts_what_ended_well() -> None:
    run = Run(a_plan(a_task("s", service=True, restart=Restart(policy="always")), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.task("s").state is S.WAITING
    run.end("a")
    assert run.scheduler.run.outcome is None, "the run waits for it to be ready again"
    run.wake()
    run.serve("s")
    assert run.scheduler.run.outcome is Outcome.COMPLETED


def test_a_failure_probe_leads_to_a_restart_where_there_is_a_policy() -> None:
    run = Run(a_plan(a_task("s", service=True, restart=Restart())))
    run.start("s")
    run.tell(ready("s", kind="failure"))
    run.end("s", signal=15)
    assert run.why("s") == "restart: seen; restart 1 of 3 in 1 s"


def test_dependents_are_told_if_they_want() -> None:
    restart = Restart(restarts_dependents=True)
    run = Run(a_plan(a_task("s", service=True, restart=restart), a_task("a", "s"), a_task("b", "a")))
    run.serve("s")
    run.start("a")
    run.end("s", 1)
    assert run.task("a").state is S.STOPPING
    run.end("a", signal=15)
    assert run.states("a", "b") == [S.WAITING, S.WAITING]
    assert run.why("a") == "restart: s, which it needs, is started again; it is started again"
    run.wake()
    run.wake()
    assert run.states("s", "a") == [S.STARTING, S.WAITING]
    run.serve("s")
    assert run.task("a").state is S.STARTING and run.task("a").retries_used == 0
    run.start("a")
    run.end("a")
    assert run.task("b").state is S.STARTING


def test_a_place_on_a_lost_node_is_given_up() -> None:
    anywhere = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    run = Run(
        a_plan(
            a_task("s", service=True, placement=anywhere, restart=Restart()),
            a_task("z", placement=Placement(nodes=(1,))),
            nodes=2,
        )
    )
    assert run.task("s").attempt.node == 0
    run.serve("s")
    run.end("s", 1)
    run.tell(AgentLost(node=0, reason="gone"))
    run.wake()
    assert run.task("s").state is S.STARTING and run.task("s").attempt.node == 1


# ---------------------------------------------------------------------- main


def test_the_run_ends_with_its_main_task() -> None:
    run = Run(a_plan(a_task("m", is_main=True), a_task("side"), a_task("after", "side")))
    run.start("m", "side")
    run.end("m")
    assert run.states("side", "after") == [S.STOPPING, S.CANCELLED]
    run.end("side", signal=15)
    assert run.why("side") == "run_complete: stopped: the run's main tasks have ended"
    assert run.leave().outcome is Outcome.COMPLETED


def test_a_run_whose_main_task_was_skipped_is_no_success() -> None:
    run = Run(a_plan(a_task("a", on_failure="continue"), a_task("m", "a", is_main=True), a_task("z")))
    run.start("a", "z")
    run.end("a", 1)
    run.end("z", signal=15)
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None
    assert finish.cause.text == "main task m did not run: needs a, which is failed"


# ---------------------------------------------------------------------- finally


def test_a_final_task_runs_when_all_is_stopped_and_knows_how_it_went() -> None:
    run = Run(a_plan(a_task("f", finally_when="after_stop"), a_task("s", service=True), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    assert run.task("f").state is S.WAITING
    run.end("a", 3)
    assert run.task("f").state is S.WAITING, "the service is still there"
    run.end("s", signal=15)
    assert run.task("f").state is S.STARTING
    spawn = next(
        spec
        for c in reversed(run.commands)
        if isinstance(c, SendToAgent) and isinstance(c.message, Spawn)
        for spec in c.message.ranks
    )
    assert spec_env(spawn.env) == ("failed", "process exited with error: a: exit status 3", "a")
    run.start("f")
    run.end("f")
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED and run.task("f").state is S.COMPLETED


def spec_env(env: dict[str, str]) -> tuple[str, str, str]:
    return env["SFLOW_RUN_OUTCOME"], env["SFLOW_RUN_CAUSE"], env["SFLOW_FAILED_TASK"]


def test_a_final_task_may_run_while_services_are_up() -> None:
    run = Run(a_plan(a_task("f", finally_when="services_up"), a_task("s", service=True), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    run.end("a")
    assert run.states("f", "s") == [S.STARTING, S.READY]
    run.start("f")
    run.end("f")
    assert run.stopped() == ["s"]
    run.end("s", signal=15)
    assert run.leave().outcome is Outcome.COMPLETED


def test_a_final_task_that_fails_fails_the_run() -> None:
    run = Run(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    run.start("a")
    run.end("a")
    run.start("f")
    run.end("f", 2)
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED and finish.cause is not None and finish.cause.task == "f"


def test_final_tasks_have_an_order_of_their_own() -> None:
    first = a_task("f1", finally_when="after_stop", on_failure="continue")
    second = a_task("f2", finally_when="after_stop", after_end=("f1",))
    run = Run(a_plan(first, second, a_task("a")))
    run.start("a")
    run.end("a")
    assert run.states("f1", "f2") == [S.STARTING, S.WAITING]
    run.start("f1")
    run.end("f1", 1)
    assert run.states("f1", "f2") == [S.FAILED, S.STARTING]
    run.start("f2")
    run.end("f2")
    assert run.leave().outcome is Outcome.COMPLETED


def test_an_interrupted_run_has_its_final_tasks_until_the_second_signal() -> None:
    run = Run(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    run.start("a")
    run.tell(StopRequested(signal="SIGINT"))
    run.end("a", signal=15)
    run.start("f")
    run.tell(StopRequested(signal="SIGINT", force=True))
    assert run.stopped()[-1] == "f"
    run.end("f", signal=9)
    assert run.task("f").state is S.CANCELLED
    assert run.leave().outcome is Outcome.INTERRUPTED


def test_final_tasks_have_no_more_time_than_the_job() -> None:
    run = Run(a_plan(a_task("f", finally_when="after_stop", timeout_s=60.0), a_task("a")), gone_at=30.0)
    run.start("a")
    run.end("a")
    run.start("f")
    while run.task("f").state is S.RUNNING:
        run.wake()
    assert run.now == 20.0 and run.stopped() == ["f"]


def test_nothing_runs_at_the_end_of_a_run_that_never_began() -> None:
    scheduler = Scheduler(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    scheduler.handle(StopRequested(signal="SIGINT"), 0.0)
    assert scheduler.run.task_named("f").state is S.CANCELLED


# ---------------------------------------------------------------------- Slurm ends the job


def test_clusters_f13_final_tasks_have_the_time_until_slurm_kills() -> None:
    run = Run(a_plan(a_task("a"), a_task("f", finally_when="after_stop", timeout_s=60.0)))
    run.start("a")
    run.tell(JobEnding(within_s=30.0), 100.0)
    assert run.stopped() == ["a"]
    run.end("a", signal=15)
    run.start("f")
    run.wake()
    assert run.now == 120.0 and run.stopped()[-1] == "f", "agents have the last 10 s"


def test_clusters_f12_a_failure_of_the_same_moment_may_be_slurms_doing() -> None:
    for delay_s, expected in ((0.1, True), (60.0, False)):
        run = Run(a_plan(a_task("s", service=True), a_task("a", "s")))
        run.serve("s")
        run.start("a")
        run.tell(exited("s"), 10.0)
        run.tell(JobEnding(within_s=30.0), 10.0 + delay_s)
        run.end("a", signal=15)
        finish = run.leave()
        assert finish.outcome is Outcome.FAILED and finish.is_ended_by_slurm is expected


# ---------------------------------------------------------------------- parts of job steps


def step_orders(run: Run) -> list[tuple[int, RankId, float]]:
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
    run = Run(a_plan(a_step("a"), a_task("b"), nodes=2))
    run.start("a", "b")
    run.end("a")
    assert run.task("a").state is S.COMPLETED and run.task("a").is_live
    assert step_orders(run) == [(1, part("a"), 0.0)]
    run.tell(cleared("a", node=1, number=1))
    assert not run.task("a").is_live


def test_clusters_f4_stopping_a_step_reaches_all_its_nodes_and_waits_for_its_command() -> None:
    command = SideCommand(argv=("quit",), timeout_s=10.0)
    run = Run(a_plan(a_step("a", stopping=Stopping(command=command, grace_s=5.0)), nodes=2))
    run.start("a")
    run.tell(StopRequested(signal="SIGINT"))
    assert run.stopped() == ["a"] and step_orders(run) == [(1, part("a"), 10.0)]
    run.end("a", signal=15)
    assert step_orders(run)[1:] == [(1, part("a"), 0.0)]
    run.tell(cleared("a", node=1, number=1))
    assert run.leave().outcome is Outcome.INTERRUPTED


def test_clusters_f5_a_lost_node_of_a_step_is_not_waited_for_and_one_that_returns_is_told_again() -> None:
    run = Run(a_plan(a_step("a"), a_task("b"), nodes=2))
    run.start("a", "b")
    run.tell(hello(1))
    assert run.task("a").attempt.parts_left, "a new session says nothing of a step that still runs"
    run.end("a")
    run.tell(hello(1))
    assert len(step_orders(run)) == 2
    run.tell(AgentLost(node=1, reason="silent"))
    assert not run.task("a").is_live


def test_clusters_f5_a_step_whose_options_choose_nodes_may_be_anywhere_in_the_job() -> None:
    run = Run(a_plan(a_step("a", chooses_step_nodes=True), a_task("b"), nodes=4))
    run.start("a", "b")
    run.end("a")
    assert [node for node, *_ in step_orders(run)] == [1, 2, 3]


def test_clusters_f5_a_step_that_could_not_be_started_has_nothing_anywhere() -> None:
    run = Run(a_plan(a_step("a"), nodes=2))
    run.tell(MessageReceived(node=0, message=LaunchFailed(rank=part("a", 0), errno=2, reason="no srun")))
    assert not run.task("a").is_live and step_orders(run) == []
