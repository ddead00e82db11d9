"""Failure policies: failures that count or not, restarts in place, main and final tasks, services that leave."""

import msgspec
import pytest

from protocol.messages.facts import Leased, RankExited
from sflow_ctl.core.commands import Warn
from sflow_ctl.core.events import MessageReceived, StopRequested, WakeUp
from sflow_ctl.core.states import Outcome, TaskState
from sflow_ctl.plan.model import Dependency, Placement
from sflow_ctl.plan.parts.again import Restart
from tests.unit.core.driver import Driver
from tests.unit.core.plans import HTTP, a_plan, a_task, exited, hello, rank, ready, started

S = TaskState


# ---------------------------------------------------------------------- on_failure


def test_drain_lets_what_runs_end_and_starts_nothing() -> None:
    run = Driver.joined(a_plan(a_task("a", on_failure="drain", retries=0), a_task("b"), a_task("c", "b")))
    run.start("a", "b")
    run.end("a", 3)
    assert run.states("a", "b", "c") == [S.FAILED, S.RUNNING, S.CANCELLED]
    assert run.run.outcome is None
    run.end("b")
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None
    assert finish.cause.task == "a"
    assert run.spawned() == ["a#1", "b#1"]


def test_drain_does_not_wait_for_services() -> None:
    run = Driver.joined(
        a_plan(a_task("s", service=True), a_task("a", "s", on_failure="drain"), a_task("b", "s"))
    )
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
    run = Driver.joined(plan)
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
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None
    assert finish.cause.task == "s"


def test_continue_is_a_failure_that_does_not_count() -> None:
    run = Driver.joined(
        a_plan(a_task("a", on_failure="continue"), a_task("b", "a"), a_task("c", after_end=("a",)))
    )
    run.start("a")
    run.end("a", 3)
    assert run.states("a", "b", "c") == [S.FAILED, S.SKIPPED, S.STARTING]
    run.start("c")
    run.end("c")
    assert run.leave().outcome is Outcome.COMPLETED


def test_an_edge_for_failures_runs_only_then() -> None:
    plan = a_plan(a_task("a", on_failure="continue"), a_task("rescue", after_failure=("a",)))
    run = Driver.joined(plan)
    run.start("a")
    run.end("a")
    assert run.states("rescue") == [S.SKIPPED]
    assert run.why("rescue") == "upstream: needs a, which is completed"
    run = Driver.joined(plan)
    run.start("a")
    run.end("a", 1)
    assert run.states("rescue") == [S.STARTING]


def test_one_failed_replica_is_a_failure_of_the_group() -> None:
    replicas = [a_task(f"a_{n}", base="a", on_failure="continue") for n in range(3)]
    any_of_them = (Dependency(task="a", until="failed", is_group=True),)
    rescue = msgspec.structs.replace(a_task("rescue"), depends_on=any_of_them)
    run = Driver.joined(a_plan(*replicas, rescue))
    run.start("a_0", "a_1", "a_2")
    run.end("a_0")
    run.end("a_1", 1)
    assert run.states("rescue") == [S.STARTING]


def test_a_long_chain_is_skipped_at_once() -> None:
    tasks = [a_task("t0", on_failure="continue")]
    tasks += [a_task(f"t{n}", f"t{n - 1}") for n in range(1, 5000)]
    run = Driver.joined(a_plan(*tasks))
    run.start("t0")
    run.end("t0", 1)
    assert all(task.state is S.SKIPPED for task in run.run.tasks[1:])
    assert run.run.outcome is Outcome.COMPLETED


# ---------------------------------------------------------------------- exit statuses


def test_other_statuses_may_be_success() -> None:
    run = Driver.joined(a_plan(a_task("a", success_exit_codes=(0, 3)), a_task("b", "a")))
    run.start("a")
    run.end("a", 3)
    assert run.states("a", "b") == [S.COMPLETED, S.STARTING]
    assert run.why("a") == "exit: exit status 3"


def test_of_several_ranks_a_failure_counts_more_than_a_high_success() -> None:
    run = Driver.joined(a_plan(a_task("a", success_exit_codes=(0, 200), ranks_per_node=(2,))))
    for number in (0, 1):
        run(started("a", rank_number=number))
    run(exited("a", 200, rank_number=0))
    run(exited("a", 1, rank_number=1))
    assert run.why("a") == "exit: rank 1: exit status 1"
    assert run.task("a").state is S.FAILED


# ---------------------------------------------------------------------- services that leave


def test_a_ready_service_that_leaves_while_it_is_needed_has_failed() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), a_task("a", "s"), a_task("b", "a", "s")))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.task("s").state is S.FAILED
    assert run.why("s") == "exit: exit status 0, while a, b still need it"
    assert run.run.cause is not None
    assert run.run.cause.task == "s"


def test_a_service_without_dependants_may_leave() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), a_task("a", "s"), a_task("z")))
    run.serve("s")
    run.start("a", "z")
    run.end("a")
    run.end("s", 0)
    assert run.task("s").state is S.COMPLETED
    assert run.run.outcome is None


def test_the_references_rule_lets_it_leave() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), a_task("a", "s"), services_may_leave=True))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.states("s", "a") == [S.COMPLETED, S.RUNNING]


def test_a_service_without_a_probe_is_ready_when_it_runs() -> None:
    run = Driver.joined(a_plan(a_task("s", kind="service"), a_task("a", "s")))
    run.start("s")
    assert run.states("s", "a") == [S.READY, S.STARTING]
    run.start("a")
    run.end("a")
    assert run.stopped() == ["s"]


def test_a_task_with_a_readiness_probe_is_waited_for() -> None:
    run = Driver.joined(a_plan(a_task("t", service=True, kind="task"), a_task("a", "t")))
    run.serve("t")
    run.start("a")
    run.end("a")
    assert run.run.outcome is None
    assert run.task("t").state is S.READY
    run.end("t")
    assert run.leave().outcome is Outcome.COMPLETED


def test_enough_replicas_are_enough() -> None:
    workers = [a_task(f"w_{n}", base="w", service=True, min_ready=2) for n in range(3)]
    run = Driver.joined(a_plan(*workers, a_task("a", groups=("w",))))
    run.serve("w_0")
    assert run.task("a").state is S.WAITING
    run.serve("w_2")
    assert run.task("a").state is S.STARTING
    run.start("a", "w_1")
    run.end("a")
    assert run.run.outcome is None, "one replica is still on its way"


def test_a_replica_too_many_may_leave() -> None:
    workers = [a_task(f"w_{n}", base="w", service=True, min_ready=1) for n in range(2)]
    run = Driver.joined(a_plan(*workers, a_task("a", groups=("w",))))
    run.serve("w_0", "w_1")
    run.start("a")
    run.end("w_1", 0)
    assert run.task("w_1").state is S.COMPLETED
    run.end("w_0", 0)
    assert run.task("w_0").state is S.FAILED


def test_keep_alive_waits_for_a_stop_request() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), keep_alive=True))
    run.serve("s")
    assert run.run.outcome is None
    run(StopRequested(signal="SIGINT"))
    assert run.stopped() == ["s"]


def test_keep_alive_ends_with_the_last_service() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True), keep_alive=True))
    run.serve("s")
    run.end("s", 0)
    assert run.leave().outcome is Outcome.COMPLETED


def test_the_first_cause_is_the_first_exit_not_the_first_that_is_heard_of() -> None:
    anywhere = Placement(nodes=(1,))
    plan = a_plan(a_task("s", service=True), a_task("c", "s", placement=anywhere), a_task("z", "s"), nodes=2)
    run = Driver.joined(plan)
    run.serve("s")
    run.start("c", "z")
    run(exited("c", 1, node=1, runtime_s=5.2))  # what a client makes of its server's end
    assert run.run.cause is not None
    assert run.run.cause.task == "c"
    run(exited("s", signal=11, runtime_s=5.0))
    run(exited("z", 1, runtime_s=5.3))
    assert run.states("s", "c", "z") == [S.FAILED, S.FAILED, S.FAILED]
    finish = run.leave()
    assert finish.cause is not None
    assert finish.cause.task == "s"
    assert finish.cause.text == "task s failed: killed by SIGSEGV"


def test_different_clocks_are_corrected_before_they_are_compared() -> None:
    hour_ns = 3600 * 10**9
    run = Driver(a_plan(a_task("s"), a_task("c", placement=Placement(nodes=(1,))), nodes=2))
    run(hello(0), msgspec.structs.replace(hello(1), clock_ahead_ns=-hour_ns))
    run(started("s"), started("c", node=1, started_at_ns=hour_ns))
    run(exited("c", 1, node=1, runtime_s=2.0), now=2.0)
    run(exited("s", 1, runtime_s=1.0), now=2.1)
    assert run.run.cause is not None
    assert run.run.cause.task == "s"


# ---------------------------------------------------------------------- restarts


def test_a_restart_is_in_place() -> None:
    gpu = Placement(nodes=(0, 1), is_flexible=True, gpus_per_node=1)
    service = a_task("s", service=True, placement=gpu, restart=Restart(count=1, backoff_s=2.0))
    run = Driver.joined(a_plan(service, a_task("rival", placement=gpu), nodes=2, gpus=1))
    place = run.task("s").attempt.placement
    run.serve("s")
    run.end("s", signal=11)
    assert run.states("s") == [S.WAITING]
    assert run.task("s").attempt.placement == place
    assert run.why("s") == "restart: killed by SIGSEGV; restart 1 of 1 in 2 s"
    run.wake()
    assert run.now == 2.0
    assert run.task("s").state is S.STARTING
    assert run.task("s").attempt.placement == place
    run.serve("s")
    run.end("s", 4)
    assert run.task("s").state is S.FAILED
    assert run.run.outcome is Outcome.FAILED


def test_restarts_outside_the_window_do_not_count() -> None:
    restart = Restart(count=1, backoff_s=1.0, window_s=10.0)
    run = Driver.joined(a_plan(a_task("s", service=True, restart=restart), a_task("a", "s")))
    run.serve("s")
    run.end("s", 1)
    run.wake()
    run.serve("s")
    run(WakeUp(), now=20.0)
    run.end("s", 1)
    assert run.why("s") == "restart: exit status 1; restart 1 of 1 in 1 s"
    run.wake()
    run.end("s", 1)
    assert run.task("s").state is S.FAILED


def test_the_backoff_doubles() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True, restart=Restart(count=3, backoff_s=1.0))))
    delays = []
    for _ in range(3):
        run.end("s", 1)
        before = run.now
        run.wake()
        delays.append(run.now - before)
    assert delays == [1.0, 2.0, 4.0]


def test_always_also_restarts_what_ended_well() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True, restart=Restart(policy="always")), a_task("a", "s")))
    run.serve("s")
    run.start("a")
    run.end("s", 0)
    assert run.task("s").state is S.WAITING
    run.end("a")
    assert run.run.outcome is None, "the run waits for it to be ready again"
    run.wake()
    run.serve("s")
    assert run.run.outcome is Outcome.COMPLETED


def test_a_failure_probe_leads_to_a_restart_where_there_is_a_policy() -> None:
    run = Driver.joined(a_plan(a_task("s", service=True, restart=Restart())))
    run.start("s")
    run(ready("s", kind="failure"))
    run.end("s", signal=15)
    assert run.why("s") == "restart: seen; restart 1 of 3 in 1 s"


def test_running_dependants_are_restarted_if_the_policy_requires_it() -> None:
    restart = Restart(restarts_dependents=True)
    run = Driver.joined(
        a_plan(a_task("s", service=True, restart=restart), a_task("a", "s"), a_task("b", "a"))
    )
    run.serve("s")
    run.start("a")
    run.end("s", 1)
    assert run.task("a").state is S.STOPPING
    run.end("a", signal=15)
    assert run.states("a", "b") == [S.WAITING, S.WAITING]
    assert run.why("a") == "restart: s, which it needs, is restarted; it is restarted"
    run.wake()
    run.wake()
    assert run.states("s", "a") == [S.STARTING, S.WAITING]
    run.serve("s")
    assert run.task("a").state is S.STARTING
    assert run.task("a").retries_used == 0
    run.start("a")
    run.end("a")
    assert run.task("b").state is S.STARTING


def test_a_place_on_a_lost_node_is_given_up() -> None:
    anywhere = Placement(nodes=(0, 1), is_flexible=True, node_count=1)
    run = Driver.joined(
        a_plan(
            a_task("s", service=True, placement=anywhere, restart=Restart()),
            a_task("z", placement=Placement(nodes=(1,))),
            nodes=2,
        )
    )
    assert run.task("s").attempt.node == 0
    run.serve("s")
    run.end("s", 1)
    run.lose(0, "gone")
    run.wake()
    assert run.task("s").state is S.STARTING
    assert run.task("s").attempt.node == 1


# ---------------------------------------------------------------------- main


def test_the_run_ends_with_its_main_task() -> None:
    run = Driver.joined(a_plan(a_task("m", is_main=True), a_task("side"), a_task("after", "side")))
    run.start("m", "side")
    run.end("m")
    assert run.states("side", "after") == [S.STOPPING, S.CANCELLED]
    run.end("side", signal=15)
    assert run.why("side") == "run_complete: stopped: the run's main tasks have ended"
    assert run.leave().outcome is Outcome.COMPLETED


def test_a_run_whose_main_task_was_skipped_fails() -> None:
    run = Driver.joined(
        a_plan(a_task("a", on_failure="continue"), a_task("m", "a", is_main=True), a_task("z"))
    )
    run.start("a", "z")
    run.end("a", 1)
    run.end("z", signal=15)
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None
    assert finish.cause.text == "main task m did not run: needs a, which is failed"


# ---------------------------------------------------------------------- finally


def test_a_final_task_runs_when_all_is_stopped_and_knows_how_it_went() -> None:
    run = Driver.joined(
        a_plan(a_task("f", finally_when="after_stop"), a_task("s", service=True), a_task("a", "s"))
    )
    run.serve("s")
    run.start("a")
    assert run.task("f").state is S.WAITING
    run.end("a", 3)
    assert run.task("f").state is S.WAITING, "the service is still there"
    run.end("s", signal=15)
    assert run.task("f").state is S.STARTING
    assert spec_env(run.envs()["f#1"]) == ("failed", "task a failed: exit status 3", "a")
    run.start("f")
    run.end("f")
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert run.task("f").state is S.COMPLETED


def spec_env(env: dict[str, str]) -> tuple[str, str, str]:
    return env["SFLOW_RUN_OUTCOME"], env["SFLOW_RUN_CAUSE"], env["SFLOW_FAILED_TASK"]


def test_a_final_task_may_run_while_services_are_up() -> None:
    run = Driver.joined(
        a_plan(a_task("f", finally_when="services_up"), a_task("s", service=True), a_task("a", "s"))
    )
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
    run = Driver.joined(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    run.start("a")
    run.end("a")
    run.start("f")
    run.end("f", 2)
    finish = run.leave()
    assert finish.outcome is Outcome.FAILED
    assert finish.cause is not None
    assert finish.cause.task == "f"


def test_final_tasks_have_an_order_of_their_own() -> None:
    first = a_task("f1", finally_when="after_stop", on_failure="continue")
    second = a_task("f2", finally_when="after_stop", after_end=("f1",))
    run = Driver.joined(a_plan(first, second, a_task("a")))
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
    run = Driver.joined(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    run.start("a")
    run(StopRequested(signal="SIGINT"))
    run.end("a", signal=15)
    run.start("f")
    run(StopRequested(signal="SIGINT", force=True))
    assert run.stopped()[-1] == "f"
    run.end("f", signal=9)
    assert run.task("f").state is S.CANCELLED
    assert run.leave().outcome is Outcome.INTERRUPTED


def test_ux_08_a_completed_run_whose_final_task_is_killed_is_interrupted() -> None:
    for signal, outcome in (("SIGINT", Outcome.INTERRUPTED), ("SIGTERM", Outcome.TERMINATED)):
        run = Driver.joined(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
        run.start("a")
        run.end("a")
        run.start("f")
        warned = run(StopRequested(signal=signal))
        said = [command.text for command in warned.of(Warn)]
        assert said == [
            f"{signal}: the run is ending already; still to end is f, which a second signal kills"
        ]
        assert run.stopped() == []
        run(StopRequested(signal=signal, force=True))
        assert run.stopped() == ["f"]
        run.end("f", signal=9)
        finish = run.leave()
        assert finish.outcome is outcome
        assert finish.cause is not None
        assert finish.cause.text == f"stopped by {signal}"


def test_ux_08_a_final_task_that_has_not_started_counts_as_well() -> None:
    run = Driver.joined(
        a_plan(a_task("f", finally_when="after_stop"), a_task("s", service=True), a_task("a", "s"))
    )
    run.serve("s")
    run.start("a")
    run.end("a")
    (warning,) = run(StopRequested(signal="SIGINT")).of(Warn)
    assert "still to end is f" in warning.text
    run(StopRequested(signal="SIGINT", force=True))
    assert run.task("f").state is S.CANCELLED
    run.end("s", signal=9)
    assert run.leave().outcome is Outcome.INTERRUPTED


def test_ux_08_signals_after_the_last_final_task_change_nothing() -> None:
    run = Driver.joined(
        a_plan(a_task("f", finally_when="services_up"), a_task("s", service=True), a_task("a", "s"))
    )
    run.serve("s")
    run.start("a")
    run.end("a")
    run.start("f")
    run.end("f")
    run(StopRequested(signal="SIGINT"))
    run(StopRequested(signal="SIGINT", force=True))
    run.end("s", signal=9)
    assert run.leave().outcome is Outcome.COMPLETED


def test_final_tasks_have_no_more_time_than_the_job() -> None:
    run = Driver.joined(
        a_plan(a_task("f", finally_when="after_stop", timeout_s=60.0), a_task("a")), gone_at=30.0
    )
    run.start("a")
    run.end("a")
    run.start("f")
    while run.task("f").state is S.RUNNING:
        run.wake()
    assert run.now == 20.0
    assert run.stopped() == ["f"]


def test_nothing_runs_at_the_end_of_a_run_that_never_began() -> None:
    run = Driver(a_plan(a_task("f", finally_when="after_stop"), a_task("a")))
    assert run(StopRequested(signal="SIGINT"))[-1] == "finish interrupted"
    assert run.state("f") is S.CANCELLED


def test_a_task_at_the_end_whose_time_is_over_is_not_tried_again() -> None:
    final = a_task("final", finally_when="after_stop", timeout_s=4.0, ports=(HTTP,))
    run = Driver.joined(a_plan(a_task("a"), final))
    run.start("a")
    run.end("a")
    run(MessageReceived(node=0, message=Leased(task="final", number=1, ports={"http": (7,)})))
    run.start("final")
    run(WakeUp(), now=4.0)
    taken = RankExited(rank=rank("final"), exit_code=1, port_conflict="port 7 is taken", was_asked=True)
    run(MessageReceived(node=0, message=taken))
    assert run.states("final") == [S.TIMEOUT]


@pytest.mark.parametrize(
    ("was_asked", "exit_code", "signal", "state"),
    [
        (False, 1, None, S.FAILED),
        (False, None, 11, S.FAILED),
        (True, 1, None, S.CANCELLED),
        (True, None, 15, S.CANCELLED),
    ],
)
def test_clusters_minor_a_task_that_fails_as_another_ends_the_run_has_failed(
    was_asked: bool, exit_code: int | None, signal: int | None, state: TaskState
) -> None:
    """Its exit was on its way when the order to stop went out."""
    run = Driver.joined(a_plan(a_task("a"), a_task("b")))
    run.start("a", "b")
    run.end("a", 1)
    assert run.states("b") == [S.STOPPING]
    message = RankExited(rank=rank("b"), exit_code=exit_code, signal=signal, was_asked=was_asked)
    run(MessageReceived(node=0, message=message))
    assert run.states("a", "b") == [S.FAILED, state]
    finish = run.leave()
    assert (finish.outcome, finish.cause and finish.cause.task) == (Outcome.FAILED, "a")


def test_clusters_minor_after_an_interrupt_every_failure_is_a_cancellation() -> None:
    run = Driver.joined(a_plan(a_task("a")))
    run.start("a")
    run(StopRequested(signal="SIGINT"))
    run(MessageReceived(node=0, message=RankExited(rank=rank("a"), exit_code=1, was_asked=False)))
    assert run.states("a") == [S.CANCELLED]
