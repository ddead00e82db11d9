"""Another plan for a live run: what starts again, what continues, and in which order tasks are stopped."""

import msgspec
import pytest

from protocol.messages.checks import LogCheck, LogPattern, Probe
from protocol.messages.orders import Spawn, Stop
from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.requests import Apply, Pause, RequestAnswer, StopTasks, Unpause
from sflow_ctl.core.states import Outcome
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.again import Retries
from tests.unit.core.driver import Driver, Lines
from tests.unit.core.plans import HTTP, a_plan, a_task, cleared, exited, leased
from tests.unit.core.test_requests import answer, request, texts


def other(task: PlannedTask, script: str = "other", **fields: object) -> PlannedTask:
    """The task with another script."""
    return msgspec.structs.replace(task, script=script, argv=("bash", "-c", script), **fields)


def but(task: PlannedTask, **fields: object) -> PlannedTask:
    return msgspec.structs.replace(task, **fields)


def apply(driver: Driver, plan: Plan, base: int | None = None) -> Lines:
    number = driver.run.plan.revision if base is None else base
    source = f"{number + 1}-{len(driver.plans)}"
    driver.plans[source] = plan
    return driver(request(Apply(source=source, base=number), f"r{len(driver.journal)}"))


def done(lines: Lines) -> RequestAnswer:
    """Look at the revision and its answer."""
    assert len(lines.of(ReviseRun)) == 1
    return answer(lines)


def refusal(lines: Lines) -> str:
    assert not lines.transitions()
    return answer(lines).error


def starting(lines: Lines) -> list[str]:
    return [str(spec.rank.attempt) for order in lines.orders(Spawn) for spec in order.ranks]


SRV, BENCH = a_task("srv", service=True), a_task("bench", "srv")


def serving(*tasks: PlannedTask) -> Driver:
    driver = Driver.joined(a_plan(*(tasks or (SRV, BENCH)), keep_alive=True))
    driver.serve("srv")
    return driver


def test_a_changed_job_starts_again_at_once_and_its_server_is_left_alone() -> None:
    driver = serving()
    driver.start("bench")
    driver.end("bench")
    lines = apply(driver, a_plan(SRV, other(BENCH), keep_alive=True))
    assert done(lines).text == "revision 2 applied: changed bench"
    assert starting(lines) == ["bench#2"]
    assert lines.orders(Spawn)[0].ranks[0].argv == ("bash", "-c", "other")
    assert driver.state("srv") == "ready"
    assert driver.task("srv").attempt.number == 1


def test_a_job_that_runs_is_stopped_before_it_starts_with_the_other_plan() -> None:
    driver = serving()
    driver.start("bench")
    lines = apply(driver, a_plan(SRV, other(BENCH), keep_alive=True))
    assert texts(lines) == ["bench is being stopped, and starts again: its script changed"]
    done(lines)
    assert [order.attempt.task for order in lines.orders(Stop)] == ["bench"]
    driver(exited("bench", signal=15, cleared=False))
    assert driver.task("bench").plan.script == "true"  # until nothing of it is left
    driver(cleared("bench"))
    lines = driver.wake()
    assert starting(lines) == ["bench#2"]
    assert driver.task("bench").plan.script == "other"
    assert driver.run.revising is None


def test_what_needs_a_changed_server_is_stopped_first_and_starts_when_that_is_ready() -> None:
    driver = serving()
    driver.start("bench")
    lines = apply(driver, a_plan(other(SRV), BENCH, keep_alive=True))
    assert done(lines).text == "revision 2 applied: changed srv; starts again because of them: bench"
    assert [order.attempt.task for order in lines.orders(Stop)] == ["bench"]
    lines = driver.end("bench", signal=15)
    assert [order.attempt.task for order in lines.orders(Stop)] == ["srv"]
    driver.wake()
    assert driver.states("srv", "bench") == ["stopping", "waiting"]
    driver.end("srv", signal=15)
    assert starting(driver.wake()) == ["srv#2"]
    driver.start("srv")
    assert driver.state("bench") == "waiting"
    driver.serve("srv")
    assert driver.state("bench") == "starting"


def test_a_job_that_had_completed_does_not_meet_the_old_server() -> None:
    driver = serving()
    driver.start("bench")
    driver.end("bench")
    done(apply(driver, a_plan(other(SRV), BENCH, keep_alive=True)))
    assert driver.states("srv", "bench") == ["stopping", "waiting"]


def test_new_tasks_start_and_removed_ones_are_stopped_in_order() -> None:
    driver = serving()
    driver.start("bench")
    lines = apply(driver, a_plan(a_task("eval"), keep_alive=True))
    assert done(lines).text == "revision 2 applied: new eval; removed srv, bench"
    assert starting(lines) == ["eval#1"]
    assert [order.attempt.task for order in lines.orders(Stop)] == ["bench"]
    driver.end("bench", 3)  # a failure that concerns nobody any more
    assert driver.states("bench", "srv") == ["cancelled", "stopping"]
    assert driver.why("bench") == "removed: removed by revision 2"
    driver.end("srv", signal=15)
    driver.start("eval")
    driver.end("eval")
    assert driver.run.outcome is Outcome.COMPLETED
    assert driver.leave().outcome is Outcome.COMPLETED


def test_a_removed_task_comes_back_with_its_next_attempt() -> None:
    driver = serving()
    driver.start("bench")
    done(apply(driver, a_plan(SRV, keep_alive=True)))
    driver.end("bench", signal=15)
    lines = apply(driver, a_plan(SRV, BENCH, keep_alive=True))
    assert done(lines).text == "revision 3 applied: new bench"
    assert starting(lines) == ["bench#2"]
    assert driver.run.plan.tasks[1].removed_in == 0


def test_a_task_that_fails_while_it_waits_to_be_stopped_ends_no_run() -> None:
    driver = serving(SRV, BENCH, a_task("slow", "srv"))
    driver.start("bench", "slow")
    done(apply(driver, a_plan(other(SRV), BENCH, a_task("slow", "srv"), keep_alive=True)))
    driver.end("bench", 1)
    assert driver.run.outcome is None
    driver.end("slow", 1)
    driver.end("srv", 1)
    assert driver.run.outcome is None
    driver.wake()
    assert driver.states("srv", "bench", "slow") == ["starting", "waiting", "waiting"]


def test_rules_change_under_a_task_that_runs() -> None:
    driver = serving()
    driver.start("bench")
    rules = but(BENCH, retries=Retries(count=2), timeout_s=30.0)
    lines = apply(driver, a_plan(SRV, rules, keep_alive=True))
    assert texts(lines) == ["bench continues: timeout none -> 30, retries changed"]
    done(lines)
    assert lines.orders(Stop) == []
    assert driver.scheduler.next_wakeup() == 30.0
    done(apply(driver, a_plan(SRV, but(rules, timeout_s=50.0), keep_alive=True)))
    assert driver.scheduler.next_wakeup() == 50.0
    done(apply(driver, a_plan(SRV, but(rules, timeout_s=None), keep_alive=True)))
    assert driver.scheduler.next_wakeup() is None
    driver.end("bench", 1)
    assert driver.state("bench") == "waiting"  # it has retries now


def test_a_probe_that_was_wrong_is_replaced_with_its_task_and_another_one_is_not() -> None:
    probe = Probe(kind="readiness", checks=(LogCheck(pattern=LogPattern(pattern="ready")),))
    driver = Driver.joined(a_plan(SRV, BENCH, keep_alive=True))
    driver.start("srv")
    lines = apply(driver, a_plan(but(SRV, probes=(probe,)), BENCH, keep_alive=True))
    assert "srv is being stopped, and starts again: its probes changed before it was ready" in texts(lines)
    done(lines)
    driver.end("srv", signal=15)
    driver.wake()
    driver.serve("srv")
    lines = apply(driver, a_plan(SRV, BENCH, keep_alive=True))
    assert texts(lines) == ["srv continues: probes changed, from its next attempt on"]
    done(lines)


def test_a_paused_run_stops_what_changes_and_starts_nothing() -> None:
    driver = serving()
    driver.start("bench")
    answer(driver(request(Pause(), "p")))
    lines = apply(driver, a_plan(SRV, other(BENCH), a_task("eval"), keep_alive=True))
    assert done(lines).text.endswith("the run is paused: what starts waits for `sflow-ctl unpause`")
    driver.end("bench", signal=15)
    driver.wake()
    assert driver.states("bench", "eval") == ["queued", "queued"]
    lines = driver(request(Unpause(), "u"))
    answer(lines)
    assert starting(lines) == ["bench#2", "eval#1"]


def test_what_a_run_refuses() -> None:
    driver = serving()
    assert (
        answer(apply(driver, a_plan(SRV, BENCH, keep_alive=True))).text == "nothing changes: revision 1 stays"
    )
    changed = a_plan(SRV, other(BENCH), keep_alive=True)
    assert refusal(apply(driver, changed, base=7)).startswith("revision 1 is in force, and this was compared")
    assert "2 nodes instead of 1" in refusal(apply(driver, a_plan(SRV, BENCH, nodes=2)))
    renamed = msgspec.structs.replace(changed, workflow="x")
    assert refusal(apply(driver, renamed)) == "the run is of workflow test, this is workflow x"
    driver.start("bench")
    done(apply(driver, changed))
    assert "revision 2 is still being applied: bench must stop first" in refusal(
        apply(driver, a_plan(SRV, keep_alive=True))
    )
    driver.end("bench", signal=15)
    driver.wake()
    driver.start("bench")
    driver.end("bench", 1)
    assert refusal(apply(driver, a_plan(SRV))) == "the run is ending: no other plan can be applied"


def test_a_run_that_stops_meanwhile_starts_nothing_again() -> None:
    driver = serving(SRV, BENCH, a_task("work"))
    driver.start("bench", "work")
    done(apply(driver, a_plan(other(SRV), BENCH, a_task("work"), keep_alive=True)))
    driver.end("work", 1)
    assert driver.run.outcome is Outcome.FAILED
    driver.end("bench", signal=15)
    driver.end("srv", signal=15)
    assert driver.states("srv", "bench") == ["cancelled", "cancelled"]
    assert driver.leave().outcome is Outcome.FAILED


def test_a_task_that_was_stopped_starts_again_only_if_it_is_changed_itself() -> None:
    driver = serving()
    driver.start("bench")
    answer(driver(request(StopTasks(tasks=("bench",)), "s")))
    driver.end("bench", signal=15)
    assert done(apply(driver, a_plan(other(SRV), BENCH, keep_alive=True))).text.endswith("changed srv")
    assert driver.state("bench") == "cancelled"
    driver.end("srv", signal=15)
    driver.wake()
    driver.serve("srv")
    lines = apply(driver, a_plan(other(SRV), other(BENCH), keep_alive=True))
    done(lines)
    assert starting(lines) == ["bench#2"]


def test_tasks_that_continue_keep_their_gpus_whatever_is_planned() -> None:
    def on(name: str, *gpus: int) -> PlannedTask:
        return a_task(name, placement=Placement(nodes=(0,), gpus=gpus, gpus_per_node=len(gpus)))

    driver = Driver.joined(a_plan(on("a", 0, 1), gpus=4))
    driver.start("a")
    done(apply(driver, a_plan(on("new", 0, 1), on("a", 2, 3), gpus=4)))
    assert driver.task("a").attempt.gpus == driver.task("a").plan.placement.gpus == (0, 1)
    assert driver.task("new").attempt.gpus == (2, 3)
    assert driver.state("a") == "running"


def test_a_server_that_starts_again_keeps_its_port_unless_it_wants_others() -> None:
    srv = a_task("srv", service=True, ports=(HTTP,))
    driver = Driver.joined(a_plan(srv, keep_alive=True))
    driver(leased("srv", 1, http=4000))
    driver.serve("srv")
    done(apply(driver, a_plan(other(srv), keep_alive=True)))
    driver.end("srv", signal=15)
    driver.wake()
    assert driver.task("srv").attempt.ports == {0: {"http": (4000,)}}


@pytest.mark.parametrize("count", [1, 3])
def test_a_scaled_group_counts_its_members_anew(count: int) -> None:
    def replicas(count: int) -> list[PlannedTask]:
        return [
            but(a_task(f"w_{i}", base="w", service=True), is_replicated=True, replica_index=i)
            for i in range(count)
        ]

    cli = a_task("cli", groups=("w",))
    driver = Driver.joined(a_plan(*replicas(2), cli, keep_alive=True))
    driver.serve("w_0")
    done(apply(driver, a_plan(*replicas(count), cli, keep_alive=True)))
    if count == 1:
        assert driver.states("w_0", "w_1", "cli") == ["ready", "stopping", "starting"]
        return
    driver.serve("w_1")
    assert driver.state("cli") == "waiting"
    driver.serve("w_2")
    assert driver.states("w_0", "w_1", "w_2", "cli") == ["ready", "ready", "ready", "starting"]
    assert [task.plan.name for task in driver.run.tasks] == ["w_0", "w_1", "cli", "w_2"]
